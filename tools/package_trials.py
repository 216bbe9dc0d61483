"""What ``tools/packages.py`` runs in each environment: a script per extra, and what is absent.

``$WORK`` holds parts and models that the script of ``[export]`` made.
"""

from __future__ import annotations

# Extra to a script that needs it.
TRIALS = {
    "base": """
chiasm --version
chiasm doctor --json > doctor.json
""",
    "export": """
chiasm data make $WORK/parts --products flange --train 12 --validation 20 --test-good 2 \\
  --test-per-defect 1 --size 96
rm -rf $WORK/run $WORK/openvino $WORK/onnx
chiasm train --data $WORK/parts/flange --out $WORK/run --fusion concatenation image_size=96 \\
  train_epochs=1 rounds=1 rotate=false
chiasm export $WORK/run --out $WORK/onnx --to onnx
chiasm export $WORK/run --out $WORK/openvino --to openvino
""",
    "train": """
rm -rf $WORK/few $WORK/recordings $WORK/small
chiasm data make $WORK/few --products flange --train 6 --validation 4 --test-good 2 \\
  --test-per-defect 1 --size 96
chiasm data make $WORK/recordings --recordings 40 --sessions 20
chiasm train --data $WORK/few/flange --out $WORK/small --model pixel_gaussian image_size=64 \\
  false_alarm_rate=0.25 rotate=false
chiasm evaluate $WORK/small --data $WORK/few/flange
""",
    "runtime": "chiasm predict $WORK/openvino $WORK/parts/flange/test/good --json > verdicts.json",
    "runtime-onnx": "chiasm predict $WORK/onnx $WORK/parts/flange/test/good --json > verdicts.json",
    "serve": """
port=$(python -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')
export port
chiasm serve $WORK/openvino --port $port --log log.sqlite 2> serve.log &
server=$!
trap "kill $server" EXIT
python - <<'CODE'
import json, os, time, urllib.request
from pathlib import Path
address = f"http://127.0.0.1:{os.environ['port']}/"
for attempt in range(240):
    try:
        urllib.request.urlopen(address + "readyz", timeout=2)
        break
    except OSError:
        time.sleep(0.5)
page = urllib.request.urlopen(address).read().decode()
assert "<script" in page, "the operators' page is not inside"
folder = Path(os.environ["WORK"]) / "parts/flange/test/good"
body = b""
for name, path in (("rgb", folder / "rgb/000.png"), ("xyz", folder / "xyz/000.tiff")):
    form = f'form-data; name="{name}"; filename="{path.name}"'
    body += f"--b\\r\\nContent-Disposition: {form}\\r\\n\\r\\n".encode()
    body += path.read_bytes() + b"\\r\\n"
request = urllib.request.Request(
    address + "v1/models/openvino/predict",
    body + b"--b--\\r\\n",
    {"Content-Type": "multipart/form-data; boundary=b"},
)
verdict = json.load(urllib.request.urlopen(request, timeout=60))
assert verdict["score"] >= 0 and verdict["p_value"] > 0, verdict
CODE
""",
    # No database answers there: the service says so, and keeps verdicts on its disk.
    "serve-postgresql": """
port=$(python -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')
export port
chiasm serve $WORK/openvino --port $port --log postgresql://nobody@127.0.0.1:9/none --spool spool \\
  2> serve.log &
server=$!
trap "kill $server" EXIT
for attempt in $(seq 240); do
  python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/readyz')" 2> /dev/null \\
    && break
  sleep 0.5
done
state=http://127.0.0.1:$port/v1/state
python -c "import urllib.request as u; print(u.urlopen('$state').read())" | grep '"mode":"spool"'
""",
    # A plant's system that takes verdicts over HTTP; the libraries of the others are loaded.
    "line": """
python -c 'import paho.mqtt.client, pymodbus.client, asyncua'
cp -r $WORK/parts/flange/test/good arriving
rm -rf arriving/gt
python - <<'CODE'
import http.server, json, pathlib, subprocess, threading
got = []
class Plant(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *words): pass
plant = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plant)
threading.Thread(target=plant.serve_forever, daemon=True).start()
pathlib.Path("outlets.yaml").write_text(
    "outlets:\\n  - type: webhook\\n    name: plant\\n"
    f"    url: http://127.0.0.1:{plant.server_port}/verdicts\\n"
)
import os
subprocess.run(
    ["chiasm", "watch", "arriving", "--model", os.environ["WORK"] + "/openvino", "--once",
     "--settle", "0", "--outlets", "outlets.yaml"],
    check=True,
)
assert len(got) == 2, got
CODE
""",
    "rivals": """
rm -rf $WORK/trees
chiasm train --model hog_lightgbm --data $WORK/recordings --out $WORK/trees
""",
    "cluster": """
chiasm predict $WORK/openvino $WORK/parts/flange/test/good --out shards --workers 2
python -c 'import ray, pyarrow.parquet as p
assert p.read_table("shards/verdicts").num_rows == 2'
""",
    "quality": """
rm -rf $WORK/dino
chiasm train --data $WORK/few/flange --out $WORK/dino --model btf image_size=96 \\
  options='{backbone: dinov2_vits14}' false_alarm_rate=0.25 rotate=false
""",
    "mlflow": """
MLFLOW_ALLOW_FILE_STORE=true MLFLOW_TRACKING_URI=file://$WORK/mlflow \\
  chiasm evaluate $WORK/small --data $WORK/few/flange --mlflow parts
test -n "$(find $WORK/mlflow -name contract.json)"
""",
    "formats": """
python - <<'CODE'
import numpy as np, OpenEXR
depth = np.full((48, 64), 0.6, np.float32)
depth[16:32, 20:44] = 0.58
OpenEXR.File({}, {"Z": depth}).write("part.exr")
from chiasm.files.images import read_depth
assert np.allclose(read_depth("part.exr", None), depth, atol=1e-3)
import imagecodecs, tifffile
tifffile.imwrite("packed.tif", depth, compression="lzma")
assert np.array_equal(tifffile.imread("packed.tif"), depth)
CODE
""",
    "all": """
chiasm doctor --json > doctor.json
python -c 'import json; e = json.load(open("doctor.json"))["extras"]; \\
  bad = [n for n, x in e.items() if not x["complete"]]; assert not bad, bad'
chiasm predict $WORK/openvino $WORK/parts/flange/test/good --json > verdicts.json
""",
}
# What a trial needs beside its extra.
BESIDE = {"cluster": ("runtime",)}
# Trials whose models others take.
MAKES = {"export": "openvino", "train": "few"}
NEEDS = {
    **dict.fromkeys(("runtime", "runtime-onnx", "serve", "serve-postgresql"), "export"),
    **dict.fromkeys(("line", "cluster", "all"), "export"),
    **dict.fromkeys(("quality", "rivals", "mlflow"), "train"),
}
WITH_TORCH = ("train", "export", "rivals", "quality", "mlflow", "all")

# Environment, command and the extra that its sentence must name.
ABSENT = (
    ("base", "chiasm train --data parts --out run", "train"),
    ("base", "chiasm search --data parts --out run", "train"),
    ("base", "chiasm evaluate $WORK/run --data $WORK/parts/flange", "train"),
    ("base", "chiasm predict $WORK/run $WORK/parts/flange/test/good", "train"),
    ("base", "chiasm models", "train"),
    ("base", "chiasm settings", "train"),
    ("base", "chiasm demo", "train"),
    ("base", "chiasm data check $WORK/parts/flange", "train"),
    ("base", "chiasm export $WORK/run --out exported", "export"),
    ("base", "chiasm predict $WORK/openvino $WORK/parts/flange/test/good", "runtime"),
    ("base", "chiasm predict $WORK/onnx $WORK/parts/flange/test/good", "runtime-onnx"),
    ("base", "chiasm serve $WORK/openvino", "serve"),
    ("base", "chiasm watch $WORK/parts --model $WORK/openvino --outlets outlets.yaml", "line"),
    ("runtime", "chiasm predict $WORK/openvino $WORK/parts --out shards --workers 2", "cluster"),
    ("train", "chiasm export $WORK/small --out exported", "export"),
    (
        "train",
        "chiasm train --model hog_lightgbm --data $WORK/recordings --out trees",
        "rivals",
    ),
    (
        "train",
        "chiasm train --data $WORK/few/flange --out dino --model btf image_size=96 "
        "options='{backbone: dinov2_vits14}' false_alarm_rate=0.25 rotate=false",
        "quality",
    ),
    (
        "serve",
        "chiasm serve $WORK/openvino --log postgresql://nobody@127.0.0.1:9/x",
        "serve-postgresql",
    ),
    ("runtime", "chiasm watch $WORK/parts --model $WORK/openvino --outlets outlets.yaml", "line"),
)
