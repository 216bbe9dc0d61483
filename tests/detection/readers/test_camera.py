"""One camera in every notation is the same four numbers; what belongs to another is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.io import savemat

from chiasm.detection.readers.camera import Intrinsics, back_project, camera_for, read_intrinsics
from chiasm.errors import DataError

FX, FY, CX, CY = 610.5, 611.25, 319.75, 241.5
ROWS = [[FX, 0, CX], [0, FY, CY], [0, 0, 1]]
FLAT = [value for row in ROWS for value in row]
COLUMNS = [FX, 0, 0, 0, FY, 0, CX, CY, 1]
NUMBERS = {"fx": FX, "fy": FY, "cx": CX, "cy": CY}
SIZE = {"width": 640, "height": 480}
OPENCV = f"""%YAML:1.0
---
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ {FX}, 0., {CX}, 0., {FY}, {CY}, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 1
   cols: 5
   dt: d
   data: [ 0.1, -0.2, 0., 0., 0.01 ]
"""
ROS = f"""image_width: 640
image_height: 480
camera_name: head
camera_matrix: {{rows: 3, cols: 3, data: {FLAT}}}
distortion_model: plumb_bob
distortion_coefficients: {{rows: 1, cols: 5, data: [0.1, -0.2, 0, 0, 0.01]}}
"""
INFO = f"""header: {{frame_id: camera}}
height: 480
width: 640
distortion_model: plumb_bob
d: [0.1, -0.2, 0.0, 0.0, 0.01]
k: {FLAT}
p: [{FX}, 0, {CX}, 0, 0, {FY}, {CY}, 0, 0, 0, 1, 0]
"""
TEXTS = {
    "plain.json": json.dumps(NUMBERS),
    "realsense.json": json.dumps(
        {**SIZE, "fx": FX, "fy": FY, "ppx": CX, "ppy": CY, "coeffs": [0.1, -0.2, 0, 0, 0.01]}
    ),
    "matrix.json": json.dumps({"K": ROWS}),
    "flat.json": json.dumps({"K": FLAT, **SIZE}),
    "bare.json": json.dumps(ROWS),
    "open3d.json": json.dumps({**SIZE, "intrinsic_matrix": COLUMNS}),
    "trajectory.json": json.dumps({"intrinsic": {**SIZE, "intrinsic_matrix": COLUMNS}}),
    "bop.json": json.dumps({"cam_K": FLAT, "depth_scale": 0.1}),
    "two.json": json.dumps({"color": {**NUMBERS, "fx": 1.0}, "depth": NUMBERS}),
    "zivid.json": json.dumps({"CameraMatrix": {"FX": FX, "FY": FY, "CX": CX, "CY": CY}}),
    "opencv.yml": OPENCV,
    "ros.yaml": ROS,
    "camera_info.yaml": INFO,
    "matrix.txt": "\n".join(" ".join(map(str, row)) for row in ROWS),
    "four.txt": f"{FX}, {FY}, {CX}, {CY}",
    "scannet.txt": "\n".join(" ".join(map(str, [*row, 0])) for row in ROWS) + "\n0 0 0 1",
    "orb.yaml": f"%YAML:1.0\nCamera.fx: {FX}\nCamera.fy: {FY}\nCamera.cx: {CX}\nCamera.cy: {CY}\n"
    "DepthMapFactor: 5000.0\n",
    "kalibr.yaml": f"cam0: {{intrinsics: [{FX}, {FY}, {CX}, {CY}], resolution: [640, 480],\n"
    "  distortion_model: radtan, distortion_coeffs: [0.1, -0.2, 0.0, 0.0, 0.01]}\n",
    "topic.yaml": INFO + "---\n",
    "lists.json": json.dumps({"focal_length": [FX, FY], "principal_point": [CX, CY]}),
    "lines.txt": f"fx: {FX}\nfy: {FY}\ncx: {CX}\ncy: {CY}\n",
    "orbbec.ini": f"[ColorIntrinsic]\nfx=1\nfy=1\ncx=1\ncy=1\n[DepthIntrinsic]\nfx={FX}\nfy={FY}\n"
    f"cx={CX}\ncy={CY}\nwidth=640\nheight=480\n",
    "cameras.txt": f"# id, model, size, numbers\n1 PINHOLE 640 480 {FX} {FY} {CX} {CY}\n",
    "zivid.yml": f"CameraMatrix: {{FX: {FX}, FY: {FY}, CX: {CX}, CY: {CY}}}\n"
    "Distortion: {K1: 0.1, K2: -0.2, P1: 0, P2: 0, K3: 0.01}\n",
}
SIZED = ("realsense.json", "flat.json", "open3d.json", "trajectory.json", "opencv.yml", "ros.yaml")
SIZED += (
    "camera_info.yaml",
    "matlab.mat",
    "kalibr.yaml",
    "orbbec.ini",
    "cameras.txt",
    "topic.yaml",
)
LENSES = ("realsense.json", "opencv.yml", "ros.yaml", "camera_info.yaml")
LENSES += ("kalibr.yaml", "topic.yaml", "zivid.yml")


@pytest.mark.parametrize("name", [*TEXTS, "meta.mat", "matlab.mat", "k.npy"])
def test_every_notation_is_the_same_camera(tmp_path, name):
    path = tmp_path / name
    if name == "meta.mat":
        savemat(path, {"intrinsic_matrix": np.array(ROWS), "factor_depth": np.array([[1000.0]])})
    elif name == "matlab.mat":
        savemat(path, {"params": {"IntrinsicMatrix": np.array(ROWS).T, "ImageSize": [480, 640]}})
    elif name == "k.npy":
        np.save(path, np.array(ROWS))
    else:
        path.write_text(TEXTS[name])
    camera = read_intrinsics(path)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (FX, FY, CX, CY)
    assert name not in SIZED or (camera.width, camera.height) == (640, 480)
    assert camera.distortion == ((0.1, -0.2, 0.0, 0.0, 0.01) if name in LENSES else ())
    units = {"meta.mat": 0.001, "bop.json": 0.0001, "orb.yaml": 0.0002}
    assert camera.depth_unit == (pytest.approx(units[name]) if name in units else None)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '{"fx": 1, "fy": 1, "cx": 1}', r"a\.json has fx=1, .*cy=;"),
        ("a.json", "hello there", r"a\.json cannot be read as JSON"),
        ("a.json", '{"K": [[1, 0, 5], [3, 1, 5], [0, 0, 1]]}', r"a\.json .* none of a camera"),
        ("a.json", json.dumps({**NUMBERS, "fx": -1}), r"a\.json: .* impossible"),
        ("a.yaml", "a: [1", r"a\.yaml cannot be read as YAML"),
        ("a.txt", "1 2 3", r"a\.txt holds no JSON object|a\.txt holds numbers"),
        ("a.mat", "junk", r"a\.mat cannot be read"),
        (
            "a.yaml",
            INFO.replace("plumb_bob", "equidistant"),
            r"a\.yaml has coefficients of the lens model 'equidistant'",
        ),
        ("a.xml", "<x/>", r"a\.xml is XML; write"),
        ("a.json", json.dumps({**NUMBERS, "dist": [0.1, 0.2, 0.3]}), "3 coefficients of a lens"),
        ("a.json", json.dumps({**NUMBERS, "fisheye": True, "D": [0.1, 0, 0, 0]}), "'fisheye'"),
        ("a.json", json.dumps({**NUMBERS, "k1": 0.1, "k4": 0.1}), "k1 to k4 alone"),
        ("a.json", '{"K": [[600, 9, 320], [0, 600, 240], [0, 0, 1]]}', "a skew of 9 pixels"),
        ("a.txt", "600 320 601 240", "in this order"),
        (
            "a.txt",
            "1 PINHOLE 640 480 600 600 320 240\n2 PINHOLE 640 480 700 700 320 240",
            "colmap1, colmap2",
        ),
        (
            "a.json",
            json.dumps({"color": NUMBERS, "infra1": {**NUMBERS, "fx": 400.0}}),
            r"holds the cameras color, infra1, and it is not told which one is of depth",
        ),
    ],
)
def test_what_is_no_camera_is_refused_by_name(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        read_intrinsics(tmp_path / name)


def test_a_camera_of_another_mode_is_refused_and_one_of_another_scale_is_scaled():
    camera = Intrinsics(FX, FY, CX, CY, width=640, height=480)
    remarks: list[str] = []
    assert camera_for(camera, (480, 640), "d.png", remarks) is camera and not remarks
    with pytest.raises(DataError, match=r"640 x 480 pixels, and d\.png has 1280 x 720"):
        camera_for(camera, (720, 1280), "d.png")
    with pytest.raises(DataError, match=r"principal point \(319\.75, 241\.5\) lies outside d\.png"):
        camera_for(Intrinsics(FX, FY, CX, CY), (120, 160), "d.png")
    half = camera_for(camera, (240, 320), "d.png", remarks)
    assert "scaled to 320 x 240" in remarks[0]
    # The middle of four pixels is the middle of the one that they become.
    whole = back_project(np.ones((480, 640)), camera).reshape(240, 2, 320, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(back_project(np.ones((240, 320)), half), whole, atol=1e-6)


def test_the_colour_camera_of_a_file_of_two_is_the_one_that_is_named_so(tmp_path):
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"depth": {**NUMBERS, "fx": 400.0}, "color": NUMBERS}))
    assert (read_intrinsics(path).fx, read_intrinsics(path, colour=True).fx) == (400.0, FX)


def test_a_rational_lens_is_the_same_by_names_and_as_a_list(tmp_path):
    listed = [0.5, 0.1, 1e-3, 2e-3, 0.2, 0.4, 0.05, 0.01]
    names = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    for facts in ({"distCoeffs": listed}, dict(zip(names, listed))):
        (tmp_path / "a.json").write_text(json.dumps({**NUMBERS, **facts}))
        assert read_intrinsics(tmp_path / "a.json").distortion == tuple(listed)


def test_numbers_of_another_unit_or_another_size_are_told():
    with pytest.raises(DataError, match="shares of the width"):
        camera_for(Intrinsics(FX / 640, FY / 480, CX / 640, CY / 480), (480, 640), "d.png")
    remarks: list[str] = []
    camera_for(Intrinsics(FX, FY, CX, CY), (480, 640), "d.png", remarks)
    assert not remarks
    camera_for(Intrinsics(2 * FX, 2 * FY, 620.0, 360.0), (480, 640), "d.png", remarks)
    assert "far from the middle" in remarks[0]
