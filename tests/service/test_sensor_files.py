"""A request takes every file that the command line takes, as the same arrays, or says the cure."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import tifffile
from stub_service import Start, grey

from chiasm.detection.readers.camera import Intrinsics, back_project
from chiasm.detection.readers.range_image import RangeSettings, read_range
from chiasm.diagnosis.recorders.recorded import RecorderSettings
from chiasm.diagnosis.recorders.recorder_files import read_recorder_file
from chiasm.errors import DataError
from chiasm.service.declared_size import Limits
from chiasm.service.decoding import Part, Recording, decode_part, decode_recording, in_fields
from chiasm.service.multipart import Upload

H, W = 24, 32
CAMERA = Intrinsics(fx=40.0, fy=41.0, cx=15.5, cy=11.5)
NAMES = {"fx": "40", "fy": "41", "cx": "15.5", "cy": "11.5"}
LIMITS = Limits(pixels=20_000, values=60_000)
RNG = np.random.default_rng(0)
DEPTH = np.rint(600 + RNG.normal(0, 2, (H, W))).astype(np.uint16)
DEPTH[8:16, 10:20] -= 30
DEPTH[RNG.random((H, W)) < 0.1] = 0
XYZ = back_project(DEPTH.astype(np.float32), CAMERA)  # millimetres
HEIGHTS = (2000 - 10 * DEPTH.astype(np.int32) // 3).astype(np.int16)


def upload(role: str, name: str, content: bytes) -> Upload:
    return Upload(role, name, content)


def part(files: dict[str, Path], fields: dict[str, str] | None = None) -> Part:
    sent = {role: Upload(role, path.name, path.read_bytes()) for role, path in files.items()}
    return decode_part(sent, fields or {}, LIMITS)


def test_archives_may_hold_facts_in_words(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, xyz=XYZ / 1000, unit="metre", serial=np.array(["a", "b"]))
    np.testing.assert_array_equal(part({"xyz": path}).xyz, XYZ / np.float32(1000))


def recording(files: dict[str, Path], **fields: str) -> Recording:
    sent = {role: Upload(role, path.name, path.read_bytes()) for role, path in files.items()}
    return decode_recording(sent, fields, LIMITS, channels=1)


def written(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".exr":
        exr = pytest.importorskip("OpenEXR")
        channels = {n: np.ascontiguousarray(values[..., i]) for i, n in enumerate("XYZ")}
        exr.File({"compression": exr.ZIP_COMPRESSION}, channels).write(str(path))
    elif path.suffix == ".npz":
        np.savez_compressed(path, xyz=values, valid_mask=values.any(axis=2))
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tiff":
        tifffile.imwrite(path, values, photometric="minisblack")
    elif path.suffix == ".csv":
        np.savetxt(path, values, delimiter=";", fmt="%.3f")
    elif path.suffix in (".ply", ".pcd"):
        path.write_bytes(cloud(path.suffix, values))
    else:
        cv2.imwrite(str(path), values)
    return path


def cloud(suffix: str, xyz: np.ndarray) -> bytes:
    """An organised binary cloud with colours."""
    if suffix == ".ply":
        table = np.zeros(H * W, [*((a, "<f4") for a in "xyz"), *((c, "u1") for c in "rgb")])
        head = (
            f"ply\nformat binary_little_endian 1.0\nobj_info num_cols {W}\nobj_info num_rows {H}\n"
            f"element vertex {H * W}\nproperty float x\nproperty float y\nproperty float z\n"
            "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
        )
        table["r"] = 255
    else:
        table = np.zeros(H * W, [*((a, "<f4") for a in "xyz"), ("c", "<u4")])
        head = (
            "# .PCD v.7\nVERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
            f"WIDTH {W}\nHEIGHT {H}\nPOINTS {H * W}\nDATA binary\n"
        )
        table["c"] = 255 << 16
    for i, axis in enumerate("xyz"):
        table[axis] = xyz[..., i].ravel()
    return head.encode() + table.tobytes()


MM, PITCH = {"unit": "0.001"}, {"unit": "1e-5", "pitch": "0.0001", "pitch_y": "0.0002"}
KINDS = {
    "tiff in millimetres": ("a.tiff", XYZ, MM, RangeSettings(unit_m=0.001)),
    "npy with NaN": (
        "a.npy",
        np.where(XYZ == 0, np.nan, XYZ).astype(np.float32),
        MM,
        RangeSettings(unit_m=0.001),
    ),
    "npz with validity": ("a.npz", XYZ, MM, RangeSettings(unit_m=0.001)),
    "OpenEXR": ("a.exr", XYZ, MM, RangeSettings(unit_m=0.001)),
    "ply with colours": ("a.ply", XYZ, MM, RangeSettings(unit_m=0.001)),
    "pcd with colours": ("a.pcd", XYZ, MM, RangeSettings(unit_m=0.001)),
    "cloud without a grid": (
        "b.npy",
        XYZ[XYZ.any(axis=2)],
        MM | {"intrinsics": f'{{"width": {W}, "height": {H}, "K": [40,0,15.5,0,41,11.5,0,0,1]}}'},
        RangeSettings(unit_m=0.001, camera=Intrinsics(40, 41, 15.5, 11.5, width=W, height=H)),
    ),
    "16-bit depth": (
        "a.png",
        DEPTH,
        MM | NAMES,
        RangeSettings(unit_m=0.001, camera=CAMERA),
    ),
    "depth with a marker": (
        "m.png",
        np.where(DEPTH == 0, np.uint16(777), DEPTH),
        MM | NAMES | {"missing": "777"},
        RangeSettings(unit_m=0.001, camera=CAMERA, missing=(777.0,)),
    ),
    "heights in counts": (
        "h.tiff",
        HEIGHTS,
        PITCH | {"offset": "0.001"},
        RangeSettings(unit_m=1e-5, pitch_x=1e-4, pitch_y=2e-4, offset_m=0.001),
    ),
    "distances": (
        "h.npy",
        HEIGHTS,
        PITCH | {"direction": "down"},
        RangeSettings(unit_m=1e-5, pitch_x=1e-4, pitch_y=2e-4, up=False),
    ),
    "table of heights": (
        "h.csv",
        HEIGHTS / 1e3,
        {"unit": "0.001", "pitch": "0.001"},
        RangeSettings(unit_m=0.001, pitch_x=1e-3),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sensor_file_is_what_the_command_line_reads(tmp_path: Path, kind: str) -> None:
    name, values, fields, settings = KINDS[kind]
    path = written(tmp_path / name, values)
    files = {"xyz": path}
    if "intrinsics" in fields:
        (tmp_path / "camera.json").write_text(fields["intrinsics"])
        files["intrinsics"] = tmp_path / "camera.json"
        fields = {n: v for n, v in fields.items() if n != "intrinsics"}
    expected = read_range(path, settings)
    found = part(files, fields)
    assert found.xyz is not None and found.xyz.any()
    np.testing.assert_array_equal(found.xyz, expected.xyz)
    assert (found.rgb is None) == (expected.rgb is None) == (path.suffix not in (".ply", ".pcd"))
    if expected.rgb is not None and found.rgb is not None:
        np.testing.assert_array_equal(found.rgb, expected.rgb)
    assert found.notes == tuple(map(in_fields, expected.remarks))


@pytest.mark.parametrize("name", ["c.json", "c.yaml", "c.mat", "c.npy", "c.npz", "c.txt"])
def test_intrinsics_are_taken_in_every_notation(tmp_path: Path, name: str) -> None:
    path, matrix = tmp_path / name, np.array([[40, 0, 15.5], [0, 41, 11.5], [0, 0, 1.0]])
    if name == "c.json":
        path.write_text(json.dumps({"intrinsic_matrix": matrix.T.ravel().tolist()}))
    elif name == "c.yaml":
        path.write_text(
            "camera_matrix:\n  rows: 3\n  cols: 3\n  data: [40, 0, 15.5, 0, 41, 11.5, 0, 0, 1]\n"
        )
    elif name == "c.mat":
        scipy.io.savemat(
            path, {"intrinsic_matrix": matrix, "factor_depth": 1000.0}, do_compression=True
        )
    elif name == "c.npy":
        np.save(path, matrix)
    elif name == "c.npz":
        np.savez(path, K=matrix)
    else:
        path.write_text("40 0 15.5\n0 41 11.5\n0 0 1\n")
    found = part({"depth": written(tmp_path / "d.png", DEPTH), "intrinsics": path})
    np.testing.assert_allclose(found.xyz, XYZ * 0.001, atol=1e-6)
    assert any("0.001 m" in note for note in found.notes)  # nobody named the unit


def test_colours_of_another_camera_are_registered(tmp_path: Path) -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, :, 2] = 200
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb)
    camera = {"fx": 80, "fy": 82, "cx": 31.5, "cy": 23.5}
    (tmp_path / "colour.json").write_text(json.dumps(camera))
    (tmp_path / "motion.json").write_text(json.dumps(np.eye(4).tolist()))
    files = {
        "rgb": tmp_path / "rgb.png",
        "xyz": written(tmp_path / "d.png", DEPTH),
        "colour_intrinsics": tmp_path / "colour.json",
        "extrinsic": tmp_path / "motion.json",
    }
    found = part(files, MM | NAMES)
    assert found.rgb is not None and found.rgb.shape == (H, W, 3)
    assert found.rgb[12, 16].tolist() == pytest.approx([200 / 255, 0, 0], abs=0.01)
    del files["extrinsic"]
    with pytest.raises(DataError, match="only colour_intrinsics was sent"):
        part(files, MM | NAMES)


def test_webp_and_twelve_bits_are_taken_and_told(tmp_path: Path, start: Start) -> None:
    content = cv2.imencode(
        ".webp", np.full((H, W, 3), 51, np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101]
    )
    files = {"rgb": ("a.webp", content[1].tobytes())}
    answer = start().client.post("/v1/models/gland/predict", files=files).json()
    assert answer["score"] == pytest.approx(20, abs=0.01)
    dark = cv2.imencode(".png", np.full((H, W, 3), 819, np.uint16))[1].tobytes()
    sent = {"rgb": upload("rgb", "a.png", dark)}
    assert "field bits" in decode_part(sent, {}, LIMITS).notes[0]
    twelve = decode_part(sent, {"bits": "12"}, LIMITS)
    assert twelve.rgb is not None and twelve.rgb.mean() == pytest.approx(0.2)
    assert not twelve.notes


LACKING = {
    "depth without a camera": ("a.png", DEPTH, MM, "field intrinsics"),
    "heights without a unit": ("h.tiff", HEIGHTS, {"pitch": "0.0001"}, "field unit"),
    "millimetres as metres": ("a.tiff", XYZ, {}, "field unit 0.001"),
    "cloud without a grid": ("b.npy", XYZ[XYZ.any(axis=2)], MM, "field intrinsics"),
    "table without a pitch": ("h.csv", HEIGHTS / 1e3, MM, "field pitch"),
    "no direction": ("h.tiff", HEIGHTS, PITCH | {"direction": "left"}, "up .* or down"),
}


@pytest.mark.parametrize("kind", LACKING)
def test_what_a_file_does_not_say_is_asked_for_by_its_field(tmp_path: Path, kind: str) -> None:
    name, values, fields, sentence = LACKING[kind]
    with pytest.raises(DataError, match=sentence) as raised:
        part({"xyz": written(tmp_path / name, values)}, fields)
    assert "--" not in str(raised.value)


def bomb(name: str) -> bytes:
    """A small file that declares, or unpacks to, more than the limits."""
    zeros, stream = np.zeros((400, 400), np.float64), io.BytesIO()
    if name == "a.npz":
        np.savez_compressed(stream, depth=zeros)
    elif name == "b.npz":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.txt", "x")
    elif name == "a.mat":
        scipy.io.savemat(stream, {"a": zeros}, do_compression=True)
    elif name == "a.ply":
        return b"ply\nformat ascii 1.0\nelement vertex 99999999\nproperty float x\nend_header\n1\n"
    elif name == "a.pcd":
        return b"VERSION .7\nFIELDS x\nWIDTH 99999\nHEIGHT 99999\nDATA ascii\n1\n"
    elif name == "a.pgm":
        return b"P5\n# 1 1\n9999 9999\n65535\n"
    elif name == "a.exr":
        window = (0).to_bytes(8, "little") + (9998).to_bytes(4, "little") * 2
        head = b"v/1\x01\x02\0\0\0dataWindow\0box2i\0" + (16).to_bytes(4, "little")
        return head + window + b"\0"
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.npz", "more than 60,000 values"),
        ("b.npz", "no npz of numpy"),
        ("a.ply", "99,999,999 points"),
        ("a.pcd", "points"),
        ("a.pgm", "9999 x 9999"),
        ("a.exr", "9999 x 9999"),
    ],
)
def test_what_declares_too_much_is_not_decoded(name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        decode_part({"xyz": upload("xyz", name, bomb(name))}, {}, LIMITS)


def test_a_camera_of_too_many_pixels_is_refused() -> None:
    camera = json.dumps(
        {**{n: float(v) for n, v in NAMES.items()}, "width": 10**5, "height": 10**5}
    )
    stream = io.BytesIO()
    np.save(stream, XYZ[XYZ.any(axis=2)])
    files = {
        "xyz": upload("xyz", "a.npy", stream.getvalue()),
        "intrinsics": upload("intrinsics", "c.json", camera.encode()),
    }
    with pytest.raises(DataError, match="at most 20,000 pixels"):
        decode_part(files, MM, LIMITS)


SIGNAL = np.round(RNG.standard_normal(3000), 3)
PULSES = np.stack([np.sort(RNG.random(300)), RNG.random(300) * 360, RNG.normal(0, 50, 300)], axis=1)


def recorder_file(folder: Path, name: str) -> Path:
    path = folder / name
    if path.suffix == ".mat":
        scipy.io.savemat(
            path, {"u": SIGNAL, "note": "x", "other": SIGNAL[:20]}, do_compression=True
        )
    elif path.suffix == ".npz":
        np.savez(path, u=SIGNAL)
    elif path.suffix == ".npy":
        np.save(path, SIGNAL)
    elif path.suffix == ".bin":
        path.write_bytes(b"head" + (1000 * SIGNAL).astype("<i2").tobytes())
    elif path.suffix == ".xml":
        lists = {"times": "1 2 3", "sample": "5 6 7", "quantity": "1 1 2"}
        body = "".join(f"<{n}>{v}</{n}>" for n, v in lists.items())
        path.write_text(f"<r><folder>f</folder><sweep_rate>50</sweep_rate>{body}</r>")
    elif name == "pulses.csv":
        rows = "\n".join(";".join(f"{v:.4f}".replace(".", ",") for v in row) for row in PULSES)
        path.write_text(f"time [s];phase [deg];charge [pC]\n{rows}\n")
    elif name == "pattern.csv":
        np.savetxt(path, RNG.poisson(0.2, (100, 360)), delimiter=",", fmt="%d")
    else:
        np.savetxt(path, PULSES, delimiter=",")
    return path


RECORDERS: dict[str, tuple[str, dict[str, str]]] = {
    "list of pulses": ("pulses.csv", {"frequency": "50"}),
    "columns without names": ("bare.csv", {"columns": "time,phase,amplitude"}),
    "pattern of counts": ("pattern.csv", {}),
    "MATLAB": ("a.mat", {"variable": "u", "sample_rate": "10000"}),
    "npz": ("a.npz", {"samples_per_cycle": "100"}),
    "npy": ("a.npy", {"sample_rate": "10000", "frequency": "50"}),
    "bare numbers": ("a.bin", {"raw_type": "int16", "header_bytes": "4"}),
    "instrument": ("a.xml", {}),
}


@pytest.mark.parametrize("kind", RECORDERS)
def test_a_recorders_file_is_what_the_command_line_reads(tmp_path: Path, kind: str) -> None:
    from chiasm.diagnosis.recorders.recorder_settings import recorder_settings

    name, fields = RECORDERS[kind]
    path = recorder_file(tmp_path, name)
    given = [f"{field}={value}" for field, value in fields.items()]
    expected = read_recorder_file(path, recorder_settings(path, given))
    found = recording({"series": path}, **fields)
    assert (found.series is None) == (expected.series is None)
    if expected.series is not None:
        np.testing.assert_array_equal(found.series, expected.series)
    assert (found.image is None) == (expected.image is None)
    if expected.image is not None:
        np.testing.assert_array_equal(found.image, expected.image)
    assert found.frequency == expected.frequency
    assert found.samples_per_cycle == expected.samples_per_cycle
    # The same sentences, of a file that is called otherwise.
    # Of a series that says nothing of its recorder, the service says what is assumed.
    assumed = [note for note in found.notes if "does not name its recorder" in note]
    assert len(found.notes) - len(assumed) == len(expected.remarks)
    assert not (assumed and expected.remarks)


def test_a_monitors_files_are_one_recording(tmp_path: Path) -> None:
    roles = {"series": ("A", 2), "series_phase": ("P", 1), "series_time": ("Ti", 0)}
    files = {}
    for role, (end, column) in roles.items():
        files[role] = tmp_path / f"x-{end}.txt"
        np.savetxt(files[role], PULSES[:, column])
    found = recording(files)
    expected = read_recorder_file(files["series"], RecorderSettings())
    np.testing.assert_array_equal(found.series, expected.series)
    with pytest.raises(DataError, match="needs series_time"):
        recording({n: p for n, p in files.items() if n != "series_time"})
    with pytest.raises(DataError, match="send these as series"):
        recording({"series_phase": files["series_phase"]})
    alone = recording({"series": files["series"]})
    assert any("x-A, -P and -Ti" in note for note in alone.notes)


def test_what_a_recorders_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="columns=time,phase,amplitude"):
        recording({"series": recorder_file(tmp_path, "bare.csv")})
    with pytest.raises(DataError, match="variable=NAME"):
        recording({"series": recorder_file(tmp_path, "a.mat")})
    with pytest.raises(DataError, match="raw_type=int16"):
        recording({"series": recorder_file(tmp_path, "a.bin")})
    with pytest.raises(DataError, match="field image"):
        decode_recording({"series": upload("series", "a.png", grey(0.2))}, {}, LIMITS, channels=1)
    with pytest.raises(DataError, match="unpacks to more than"):
        sent = {"series": upload("series", "a.mat", bomb("a.mat"))}
        decode_recording(sent, {}, LIMITS, channels=1)


def test_an_earlier_name_of_a_field_is_taken_and_told(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.csv", np.arange(512.0).reshape(256, 2) % 7, delimiter=",")
    earlier = recording({"series": tmp_path / "a.csv"}, rows_in_time="true")
    present = recording({"series": tmp_path / "a.csv"}, layout="rows")
    np.testing.assert_array_equal(earlier.series, present.series)
    told = [note for note in earlier.notes if "'rows_in_time' is now called 'layout'" in note]
    assert len(told) == 1 and not any("rows_in_time" in note for note in present.notes)
