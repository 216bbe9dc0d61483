#!/usr/bin/env bash
# The headers that examples/cpp needs: of this Debian, or of Debian 13 in build/headers (Debian 12 has none).
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(libonnxruntime-dev nlohmann-json3-dev)
if apt-get install -y -qq "${packages[@]}" 2> /dev/null; then exit 0; fi
place=$(mktemp -d)
trap 'rm -r "$place"' EXIT
mkdir -p "$place/lists/partial" "$place/archives/partial" "$place/deb"
cat > "$place/debian.sources" <<'SOURCES'
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
options=(-qq -o "Dir::Etc::sourcelist=$place/debian.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$place/lists"
  -o "Dir::Cache=$place" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
(cd "$place/deb" && apt-get "${options[@]}" download "${packages[@]}")
for package in "$place"/deb/*.deb; do
  dpkg-deb -x "$package" "$place/root"
done
mkdir -p build/headers/usr
cp -r "$place/root/usr/include" build/headers/usr/
