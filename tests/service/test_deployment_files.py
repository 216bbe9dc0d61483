"""The files for several services: valid for their programs, and in line with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from chiasm.cli.main import app
from chiasm.service.log.database import Database

FOLDER = Path(__file__).parents[2] / "docs/deployment/stations"
if not FOLDER.is_dir():
    pytest.skip("Only the sources have the deployment files.", allow_module_level=True)
PROXY = (FOLDER / "nginx.conf").read_text()
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
KUBERNETES = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
SERVED = {"chiasm-0", "chiasm-1", "chiasm-2"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_yaml_is_clean(path: Path):
    config = pytest.importorskip("yamllint.config", reason="yamllint is not installed")
    from yamllint import linter

    rules = config.YamlLintConfig(
        "{extends: default, rules: {document-start: disable, line-length: {max: 100}, "
        "braces: {max-spaces-inside: 0}}}"
    )
    assert [str(problem) for problem in linter.run(path.read_text(), rules)] == []


@pytest.mark.parametrize(
    "resource", KUBERNETES, ids=lambda r: f"{r['kind']}-{r['metadata']['name']}"
)
def test_kubernetes_takes_the_manifests(resource: dict[str, Any]):
    validator = pytest.importorskip("kubernetes_validate", reason="not installed")
    validator.validate(resource, validator.latest_version(), strict=True)


def serve_options(arguments: list[str]) -> set[str]:
    return {argument for argument in arguments if argument.startswith("--")}


def test_all_files_name_the_same_services_and_options_that_exist():
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    listed = set(re.findall(r"server (chiasm-\d):8000", PROXY))
    assert listed == SERVED
    services = {name: one for name, one in COMPOSE["services"].items() if name in SERVED}
    assert services.keys() == SERVED
    for name, one in services.items():
        assert one["hostname"] == name  # so that each reports under a name of its own
        assert serve_options(one["command"]) <= known
        assert Database(one["environment"]["CHIASM_LOG"]).path is None
    named = {r["metadata"]["name"]: r for r in KUBERNETES if r["kind"] == "Service"}
    assert named.keys() >= SERVED
    for name in SERVED:
        assert named[name]["spec"]["selector"] == {"statefulset.kubernetes.io/pod-name": name}
    stateful = next(r for r in KUBERNETES if r["kind"] == "StatefulSet")
    assert stateful["spec"]["replicas"] == len(SERVED)
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    assert serve_options(container["args"]) <= known
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in stateful["spec"]["template"]["spec"]["volumes"]}
    claims = {claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    assert mounted == volumes | claims
    customised = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = [*customised["resources"]]
    files += [f.partition("=")[2] for g in customised["configMapGenerator"] for f in g["files"]]
    assert all((FOLDER / file).is_file() for file in files)


def test_nginx_takes_its_settings(tmp_path: Path):
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light.")
    local = re.sub(r"chiasm-\d:8000", "127.0.0.1:8000", PROXY)
    (tmp_path / "chiasm.conf").write_text(local)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} "
        f"http {{ access_log off; include {tmp_path}/chiasm.conf; }}"
    )
    done = subprocess.run(
        [nginx, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["chiasm.service", "line/chiasm-watch@.service"])
def test_systemd_takes_the_units(name: str, tmp_path: Path):
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd.")
    source = FOLDER.parent / name
    unit = tmp_path / source.name.replace("@", "@press")
    # The program of a station is not here; all else is verified as it stands.
    unit.write_text(source.read_text().replace("/opt/chiasm/bin/chiasm", "/bin/true"))
    (tmp_path / "chiasm.socket").write_text((FOLDER.parent / "chiasm.socket").read_text())
    done = subprocess.run([analyse, "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr


@pytest.mark.parametrize(
    ("name", "needed", "absent"),
    [
        ("Containerfile", {"runtime", "serve-postgresql"}, "train"),
        ("Containerfile.train", {"train", "export", "runtime"}, "serve"),
    ],
)
def test_containers_run_as_a_user_without_more_than_they_need(name, needed, absent):
    text = (FOLDER.parent / name).read_text()
    instructions = [line.split()[0] for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert instructions.index("USER") < instructions.index("ENTRYPOINT")
    assert "ADD" not in instructions
    assert ("HEALTHCHECK" in instructions) == ("EXPOSE" in instructions)
    bases = re.findall(r"^FROM \$\{(\w+)\}", text, re.MULTILINE)
    images = [re.search(rf"^ARG {base}=(\S+)$", text, re.MULTILINE)[1] for base in bases]
    assert images and len(images) == instructions.count("FROM")
    assert all(":" in image and not image.endswith(":latest") for image in images)
    extras = {e for found in re.findall(r"\.\[([\w,-]+)\]", text) for e in found.split(",")}
    assert needed <= extras and absent not in extras
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    root = FOLDER.parents[2]
    context = (root / ".dockerignore").read_text().splitlines()
    for path in (path for paths in copied for path in paths.split()):
        assert (root / path).exists() and f"!{path.split('/')[0]}" in context
    assert all("-c constraints.txt" in line for line in text.splitlines() if "pip install" in line)
    if "ARG TORCH" in text:
        pins = (root / "constraints.txt").read_text().splitlines()
        assert re.search(r"^ARG TORCH=(\S+)$", text, re.MULTILINE)[1] in pins
