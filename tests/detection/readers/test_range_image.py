"""What a sensor wrote, in any format, is the same points: compared with points by hand."""

from __future__ import annotations

import csv
import io
import struct
from dataclasses import replace

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile

from chiasm.detection.readers.camera import Intrinsics, back_project
from chiasm.detection.readers.range_image import RangeSettings, read_range
from chiasm.errors import DataError

H, W = 24, 32
CAMERA = Intrinsics(fx=40.0, fy=41.0, cx=15.5, cy=11.5, width=W, height=H)
MM = RangeSettings(unit_m=0.001)


def depth(seed=0):
    """Millimetres: a block on a table, a tenth missing."""
    rng = np.random.default_rng(seed)
    z = np.rint(600 + rng.normal(0, 2, (H, W))).astype(np.uint16)
    z[8:16, 10:20] -= 30
    z[rng.random((H, W)) < 0.1] = 0
    return z


def points():
    """The points of ``depth`` in millimetres, 0 where missing."""
    return back_project(depth().astype(np.float32), CAMERA)


def saved(path, values):
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tiff":
        tifffile.imwrite(path, values, photometric="minisblack")
    elif path.suffix == ".exr":
        exr = pytest.importorskip("OpenEXR")
        names = ("X", "Y", "Z") if values.ndim == 3 else ("Z",)
        planes = np.atleast_3d(values).astype(np.float32)
        channels = {n: np.ascontiguousarray(planes[..., i]) for i, n in enumerate(names)}
        exr.File({"compression": exr.ZIP_COMPRESSION}, channels).write(str(path))
    elif path.suffix == ".npz":
        np.savez(path, **{"xyz" if values.ndim == 3 else "depth": values})
    else:
        cv2.imwrite(str(path), values)
    return path


@pytest.mark.parametrize("name", ["a.tiff", "a.npy", "a.npz", "a.exr"])
@pytest.mark.parametrize("absent", [np.nan, -np.inf, 0.0, -9999.0, 1e10])
def test_point_maps_of_any_format_and_marker_are_the_same_points(tmp_path, name, absent):
    xyz = points()
    gone = ~xyz.any(axis=2)
    xyz[gone] = absent
    image = read_range(saved(tmp_path / name, xyz), MM)
    np.testing.assert_allclose(image.xyz, points() * 0.001, rtol=1e-6)
    assert (not image.xyz[gone].any()) and image.xyz.dtype == np.float32
    assert bool(image.remarks) == (absent in (-9999.0, 1e10))


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.npy", "a.npz", "a.exr"])
def test_depth_of_any_format_is_the_same_points(tmp_path, name):
    values = depth() if name != "a.exr" else depth().astype(np.float32)
    image = read_range(saved(tmp_path / name, values), RangeSettings(unit_m=0.001, camera=CAMERA))
    np.testing.assert_allclose(image.xyz, points() * 0.001, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "marker"), [(np.uint16, 65535), (np.int32, -1), (np.float32, -1e6), (np.int16, 32767)]
)
def test_a_marker_far_from_all_others_is_missing_and_told(tmp_path, kind, marker):
    values = depth().astype(kind)
    values[depth() == 0] = marker
    image = read_range(
        saved(tmp_path / "a.tiff", values), RangeSettings(unit_m=0.001, camera=CAMERA)
    )
    np.testing.assert_allclose(image.xyz, points() * 0.001, atol=1e-6)
    assert f"{float(marker):g}" in image.remarks[0]


def test_values_that_only_look_like_markers_stay(tmp_path):
    values = depth().astype(np.float32)
    values[3, 3] = 900  # one far point is no marker
    values[10:12] = 640  # nor are many that are near to others
    image = read_range(
        saved(tmp_path / "a.tiff", values), RangeSettings(unit_m=0.001, camera=CAMERA)
    )
    assert image.xyz[3, 3, 2] == np.float32(0.9)
    assert image.xyz[10:12].any(axis=2).all()
    assert not image.remarks


def test_a_named_marker_is_missing_though_it_is_near(tmp_path):
    values = depth()
    values[0, :5] = 650
    settings = RangeSettings(unit_m=0.001, camera=CAMERA, missing=(650.0,))
    image = read_range(saved(tmp_path / "a.png", values), settings)
    assert not image.xyz[0, :5].any()


@pytest.mark.parametrize("up", [True, False])
def test_heights_of_a_profiler_become_points_on_a_grid(tmp_path, up):
    counts = np.zeros((H, W), np.int16)
    counts[8:16, 10:20] = 500 if up else -500
    counts[0] = -32768
    settings = RangeSettings(unit_m=1e-5, pitch_x=1e-3, pitch_y=2e-3, offset_m=0.001, up=up)
    image = read_range(saved(tmp_path / "a.tiff", counts), settings)
    xyz = image.xyz
    assert not xyz[0].any() and xyz[1:].any(axis=2).all()
    np.testing.assert_allclose(np.diff(xyz[5, :, 0]), 1e-3, rtol=1e-4)
    np.testing.assert_allclose(np.diff(xyz[1:, 5, 1]), 2e-3, rtol=1e-4)
    # 5 mm nearer to the sensor, whichever way heights count.
    np.testing.assert_allclose(xyz[2, 2, 2] - xyz[10, 12, 2], 5e-3, rtol=1e-4)
    assert "-32768" in image.remarks[0]


def test_heights_need_a_unit_and_a_place(tmp_path):
    path = saved(tmp_path / "a.tiff", np.full((H, W), 5000, np.int16))
    with pytest.raises(DataError, match=r"a\.tiff is a depth image.* --pitch|a\.tiff is .*pitch"):
        read_range(path, RangeSettings(unit_m=1e-5))
    with pytest.raises(DataError, match=r"whole counts of height .*--unit"):
        read_range(path, RangeSettings(pitch_x=1e-3))
    with pytest.raises(DataError, match=r"heights of 50 mm in a map .*--offset -0\.05,"):
        read_range(path, RangeSettings(unit_m=1e-5, pitch_x=1e-4))
    read_range(path, RangeSettings(unit_m=1e-5, pitch_x=1e-4, offset_m=-0.05))


GOCATOR = """Info
CSV Version,Sensor Count,XResolution,YResolution,ZResolution,Layout
2,1,0.50000,0.25000,0.00300,0
End

Part
Frame,Source,Row Count,Column Count
1,0,4,5
Y\\X,-1.0,-0.5,0.0,0.5,1.0
{rows}
End

"""
KEYENCE = """"Measured data"
"XY calibration"{s}"250"{s}"um"
"Output image data"{s}"Height"
"Unit"{s}"um"
"Height"
{rows}
"""
HEIGHTS = np.array([[0.5, 1, 1.5, 2, 2.5]] * 2 + [[3, np.nan, 4, 4.5, 5]] * 2) / 10


def cells(values, scale=1.0, separator=",", decimal="."):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
    for row in values * scale:
        writer.writerow(["" if np.isnan(v) else f"{v:.3f}".replace(".", decimal) for v in row])
    return stream.getvalue().rstrip("\n")


def test_gocator_tables_bring_their_grid(tmp_path):
    rows = cells(HEIGHTS).splitlines()
    rows = "\n".join(f"{-0.25 + 0.25 * i:.5f},{row}" for i, row in enumerate(rows))
    (tmp_path / "a.csv").write_text(GOCATOR.format(rows=rows))
    image = read_range(tmp_path / "a.csv", RangeSettings())
    check_heights(image.xyz, pitch=(0.5e-3, 0.25e-3))


@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), ("\t", ".")])
def test_tables_with_facts_above_bring_pitch_and_unit(tmp_path, separator, decimal):
    rows = cells(HEIGHTS, 1000, separator, decimal)
    (tmp_path / "a.csv").write_text(KEYENCE.format(s=separator, rows=rows))
    image = read_range(tmp_path / "a.csv", RangeSettings())
    check_heights(image.xyz, pitch=(0.25e-3, 0.25e-3))


def test_bare_tables_need_pitch_and_unit(tmp_path):
    (tmp_path / "a.csv").write_text(cells(HEIGHTS))
    with pytest.raises(DataError, match=r"a\.csv .*how far its pixels are apart.*--pitch"):
        read_range(tmp_path / "a.csv", RangeSettings())
    with pytest.raises(DataError, match=r"a\.csv .*unknown unit.*--unit"):
        read_range(tmp_path / "a.csv", RangeSettings(pitch_x=1e-3))
    image = read_range(tmp_path / "a.csv", RangeSettings(unit_m=0.001, pitch_x=1e-3))
    check_heights(image.xyz, pitch=(1e-3, 1e-3))


def check_heights(xyz, pitch):
    measured = np.isfinite(HEIGHTS)
    np.testing.assert_array_equal(xyz.any(axis=2), measured)
    z = xyz[..., 2]
    np.testing.assert_allclose(
        (z[0, 0] - z)[measured], (HEIGHTS - HEIGHTS[0, 0])[measured] * 1e-3, atol=1e-7
    )
    np.testing.assert_allclose(np.diff(xyz[0, :, 0]), pitch[0], rtol=1e-4)
    np.testing.assert_allclose(np.diff(xyz[:, 0, 1]), pitch[1], rtol=1e-4)


def test_a_list_of_points_on_a_lattice_becomes_its_pixels(tmp_path):
    y, x = np.mgrid[:6, :8] * 0.1
    z = np.random.default_rng(0).uniform(300, 310, x.shape)
    rows = np.stack([x, y, z], axis=2).reshape(-1, 3)
    order = np.random.default_rng(1).permutation(len(rows))[:40]
    (tmp_path / "a.txt").write_text(
        "X Y Z\n" + "\n".join("{:.4f} {:.4f} {:.4f}".format(*row) for row in rows[order])
    )
    image = read_range(tmp_path / "a.txt", MM)
    assert image.xyz.shape == (6, 8, 3)
    np.testing.assert_array_equal(image.xyz.any(axis=2).ravel()[order], True)
    np.testing.assert_allclose(image.xyz.reshape(-1, 3)[order], rows[order] / 1000, atol=1e-6)
    assert image.xyz.any(axis=2).sum() == 40 and "grid of 8 x 6" in image.remarks[0]


@pytest.mark.parametrize(
    ("form", "order"), [("ascii", ""), ("binary_little_endian", "<"), ("binary_big_endian", ">")]
)
def test_a_range_grid_of_valid_points_is_the_full_grid(tmp_path, form, order):
    xyz = points()
    valid = xyz.any(axis=2).ravel()
    rows = xyz.reshape(-1, 3)[valid]
    links = np.where(valid, np.cumsum(valid) - 1, -1)
    head = (
        f"ply\nformat {form} 1.0\nobj_info num_cols {W}\nobj_info num_rows {H}\n"
        "element camera 1\nproperty list uchar int skipped\nproperty float fx\n"
        f"element vertex {len(rows)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element range_grid {H * W}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    if form == "ascii":
        body = "2 7 8 1.5\n" + "".join("{} {} {} 255 0 51\n".format(*row) for row in rows.tolist())
        body += "".join("0\n" if link < 0 else f"1 {link}\n" for link in links)
        content = (head + body).encode()
    else:
        content = head.encode() + struct.pack(order + "Biif", 2, 7, 8, 1.5)
        content += b"".join(struct.pack(order + "fffBBB", *row, 255, 0, 51) for row in rows)
        content += b"".join(
            b"\0" if link < 0 else struct.pack(order + "Bi", 1, link) for link in links
        )
    (tmp_path / "a.ply").write_bytes(content)
    image = read_range(tmp_path / "a.ply", MM)
    np.testing.assert_allclose(image.xyz, xyz * 0.001, rtol=1e-6)
    colours = np.where(valid.reshape(H, W, 1), np.array([1, 0, 0.2]), 0)
    np.testing.assert_allclose(image.rgb, colours, atol=1e-6)
    assert read_range(tmp_path / "a.ply", MM, (H, W)).rgb is None  # there is a colour image


def pcd(data, size, colour):
    xyz = points().reshape(-1, 3)
    packed = np.full(len(xyz), 255 << 16 | 51, np.uint32)
    kind = {"rgb": "F", "rgba": "U", "intensity": "F"}[colour]
    values = np.full(len(xyz), 0.2, np.float32) if colour == "intensity" else packed
    table = np.zeros(len(xyz), [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("c", "<u4")])
    for i, axis in enumerate("xyz"):
        table[axis] = xyz[:, i]
    table["c"] = values.view(np.uint32)
    head = (
        f"# .PCD v.7\nVERSION .7\nFIELDS x y z {colour}\nSIZE 4 4 4 4\nTYPE F F F {kind}\n"
        f"COUNT 1 1 1 1\nWIDTH {size[1]}\nHEIGHT {size[0]}\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {len(xyz)}\nDATA {data}\n"
    ).encode()
    if data == "ascii":
        texts = [f"{0.2}" if colour == "intensity" else str(p) for p in packed]
        rows = zip(xyz.tolist(), texts)
        return head + "".join("{} {} {} {}\n".format(*row, text) for row, text in rows).encode()
    if data == "binary":
        return head + table.tobytes()
    raw = b"".join(table[name].tobytes() for name in table.dtype.names)
    packed_bytes = imagecodecs.lzf_encode(raw)
    return head + struct.pack("<II", len(packed_bytes), len(raw)) + packed_bytes


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("colour", ["rgb", "rgba", "intensity"])
def test_colours_inside_a_cloud_are_the_image(tmp_path, data, colour):
    (tmp_path / "a.pcd").write_bytes(pcd(data, (H, W), colour))
    image = read_range(tmp_path / "a.pcd", MM)
    np.testing.assert_allclose(image.xyz, points() * 0.001, rtol=1e-5)
    expected = (0.2, 0.2, 0.2) if colour == "intensity" else (1, 0, 0.2)
    np.testing.assert_allclose(image.rgb, np.broadcast_to(expected, (H, W, 3)), atol=1e-6)
    if colour == "intensity":
        bare = read_range(tmp_path / "a.pcd", RangeSettings(unit_m=0.001, intensity=False))
        assert bare.rgb is None


def test_points_of_a_lens_with_distortion_find_their_pixels(tmp_path):
    lens = replace(CAMERA, distortion=(-0.2, 0.05, 0.001, -0.001, 0.0))
    settings = RangeSettings(unit_m=0.001, camera=lens)
    by_depth = read_range(saved(tmp_path / "a.png", depth()), settings).xyz
    rows = by_depth[by_depth.any(axis=2)]
    by_cloud = read_range(
        saved(tmp_path / "a.npy", rows), RangeSettings(unit_m=1.0, camera=lens)
    ).xyz
    np.testing.assert_array_equal(by_cloud, by_depth)


def test_a_cloud_without_a_grid_is_put_into_the_pixels_of_its_camera(tmp_path):
    xyz = points()
    rows = xyz[xyz.any(axis=2)]
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    behind = np.concatenate([rows, rows[:5] * 1.5])  # hidden by the first five
    np.save(tmp_path / "a.npy", behind)
    with pytest.raises(DataError, match=r"not organised.*--intrinsics"):
        read_range(tmp_path / "a.npy", MM)
    image = read_range(tmp_path / "a.npy", RangeSettings(unit_m=0.001, camera=CAMERA))
    np.testing.assert_allclose(image.xyz, xyz * 0.001, rtol=1e-5, atol=1e-9)
    assert f"5 of {len(behind)} were hidden or outside" in image.remarks[0]
    with pytest.raises(DataError, match=r"thinned"):
        read_range(saved(tmp_path / "b.npy", rows[:14]), RangeSettings(unit_m=0.001, camera=CAMERA))
    with pytest.raises(DataError, match=r"points only \d+ fall"):
        np.save(tmp_path / "c.npy", rows[:, [2, 0, 1]])
        read_range(tmp_path / "c.npy", RangeSettings(unit_m=0.001, camera=CAMERA))


@pytest.mark.parametrize(
    ("scale", "step"), [(1.0, 0.0), (0.04, 0.0), (0.02, 0.01)], ids=["far", "wide", "steps"]
)
def test_millimetres_do_not_pass_as_metres(tmp_path, scale, step):
    xyz = points() * np.float32(scale)
    if step:
        xyz = (np.rint(xyz / step) * step).astype(np.float32)
    path = saved(tmp_path / "a.tiff", xyz)
    with pytest.raises(DataError, match=r"a\.tiff would be .*--unit 0\.001"):
        read_range(path, RangeSettings())
    np.testing.assert_array_equal(read_range(path, RangeSettings(unit_m=1.0)).xyz, xyz)


def test_metres_pass_without_a_word(tmp_path):
    rng = np.random.default_rng(0)
    for distance in (0.05, 0.6, 2.9, 4.0):
        z = np.where(depth() > 0, distance * (1 + rng.normal(0, 1e-3, (H, W))), 0)
        xyz = back_project(z.astype(np.float32), CAMERA)
        image = read_range(saved(tmp_path / "a.tiff", xyz), RangeSettings())
        np.testing.assert_array_equal(image.xyz, xyz)
        assert bool(image.remarks) == (distance > 3)  # the unit that is assumed is told


def test_archives_bring_validity_marker_and_colours(tmp_path):
    values = depth().astype(np.float32)
    valid = values > 0
    valid[5] = False
    values[5] = -77
    rgb = np.random.default_rng(0).integers(0, 256, (H, W, 3)).astype(np.uint8)
    np.savez(
        tmp_path / "a.npz",
        depth=values,
        valid_mask=valid,
        invalid_sentinel=np.float32(-77),
        rgb=rgb,
    )
    image = read_range(tmp_path / "a.npz", RangeSettings(unit_m=0.001, camera=CAMERA))
    np.testing.assert_array_equal(image.xyz.any(axis=2), valid)
    np.testing.assert_allclose(image.rgb, rgb / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.exr", b"v/1\x01" + b"\0" * 200, r"a\.exr cannot be decoded as OpenEXR"),
        ("a.tiff", b"hello", r"a\.tiff cannot be decoded"),
        ("a.npz", b"PK\x03\x04junk", r"a\.npz cannot be read as an npz"),
        ("a.npy", b"\x93NUMPY\1\0", r"a\.npy cannot be read as a numpy"),
        ("a.csv", b"hello\nworld\n", r"a\.csv holds no table of numbers"),
        ("a.csv", bytes(range(256)) * 4, r"a\.csv is of no known format"),
        ("a.ply", b"ply\nend_header\n", r"a\.ply: the header has no line 'format'"),
        ("a.ply", b"", r"a\.ply is empty"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_range(tmp_path / name, RangeSettings(camera=CAMERA))


def test_a_missing_package_is_told_with_its_line(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    (tmp_path / "a.exr").write_bytes(b"v/1\x01" + b"\0" * 200)
    with pytest.raises(DataError, match=r"pip install 'chiasm\[formats\]'.* float32 TIFF"):
        read_range(tmp_path / "a.exr", RangeSettings())
