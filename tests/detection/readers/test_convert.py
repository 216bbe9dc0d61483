"""Point clouds and depth images into the MVTec 3D-AD layout, and nothing damaged with them."""

from __future__ import annotations

import json
import struct

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile

from chiasm.detection.readers.convert import convert
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.range_image import RangeSettings, read_range
from chiasm.errors import DataError
from chiasm.files.images import write_mask, write_rgb, write_xyz

H, W = 3, 4


def read_cloud(path, size=None, unit_m=1.0):
    return read_range(path, RangeSettings(unit_m=unit_m), size).xyz


XYZ = "property {0} x\nproperty {0} y\nproperty uchar red\nproperty {0} z\n"
GRID = f"obj_info num_cols {W}\nobj_info num_rows {H}\n"


def grid(seed=0):
    xyz = np.random.default_rng(seed).uniform(-500, 500, (H, W, 3)).astype(np.float32)
    xyz[0, 1, 2] = np.nan  # one coordinate is enough to make a point missing
    xyz[2, 0] = 0
    return xyz


def in_metres(xyz):
    return np.where(np.isfinite(xyz).all(axis=2, keepdims=True), xyz, 0) * np.float32(0.001)


def records(xyz, order="<", kind="f4"):
    dtype = [("x", order + kind), ("y", order + kind), ("red", "u1"), ("z", order + kind)]
    table = np.zeros(H * W, dtype)
    for i, axis in enumerate("xyz"):
        table[axis] = xyz[..., i].ravel()
    table["red"] = 7
    return table


def ply(xyz, form="binary_little_endian", kind="float", extra=GRID) -> bytes:
    head = f"ply\nformat {form} 1.0\n{extra}element vertex {H * W}\n{XYZ.format(kind)}end_header\n"
    if form == "ascii":
        rows = (" ".join(map(str, row.tolist())) for row in records(xyz))
        return (head + "\n".join(rows) + "\n").encode()
    order = "<" if "little" in form else ">"
    return head.encode() + records(xyz, order, "f8" if kind == "double" else "f4").tobytes()


def pcd(xyz, data="binary") -> bytes:
    fields = "FIELDS x y red z\nSIZE 4 4 1 4\nTYPE F F U F\nCOUNT 1 1 1 1\n"
    head = f"# .PCD v0.7\nVERSION 0.7\n{fields}WIDTH {W}\nHEIGHT {H}\nDATA {data}\n"
    table = records(xyz)
    if data == "ascii":
        return (head + "\n".join(" ".join(map(str, row.tolist())) for row in table)).encode()
    if data == "binary":
        return head.encode() + table.tobytes()
    raw = b"".join(table[name].tobytes() for name in table.dtype.names)
    packed = imagecodecs.lzf_encode(raw)
    return head.encode() + struct.pack("<II", len(packed), len(raw)) + packed


CLOUDS = {
    "ascii.ply": lambda xyz: ply(xyz, "ascii"),
    "little.ply": ply,
    "big_double.ply": lambda xyz: ply(xyz, "binary_big_endian", "double"),
    "ascii.pcd": lambda xyz: pcd(xyz, "ascii"),
    "binary.pcd": pcd,
    "packed.pcd": lambda xyz: pcd(xyz, "binary_compressed"),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_become_maps_in_metres_with_0_where_missing(tmp_path, name):
    (tmp_path / name).write_bytes(CLOUDS[name](grid()))
    points = read_cloud(tmp_path / name, unit_m=0.001)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, in_metres(grid()), rtol=1e-5)


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_cut_short_are_refused_by_name(tmp_path, name):
    content = CLOUDS[name](grid())
    for share in (0.1, 0.9):
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=name):
            read_cloud(tmp_path / name, size=(H, W))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.ply", b"format binary_little_endian 1.0\n", b""),
        ("a.ply", b"property float x", b"property quad x"),
        ("a.ply", b"float z", b"float depth"),
        ("a.ply", b"vertex 12", b"vertex 99999999999999999999"),
        ("a.pcd", b"SIZE 4", b"SIZE 3"),
        ("a.pcd", b"DATA binary", b"DATA sideways"),
        ("a.pcd", b"HEIGHT 3\n", b""),
    ],
)
def test_headers_that_make_no_sense_are_refused_by_name(tmp_path, name, old, new):
    content = (ply if name == "a.ply" else pcd)(grid())
    assert old in content
    (tmp_path / name).write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_cloud(tmp_path / name)


def test_clouds_that_are_not_one_point_a_pixel_are_refused(tmp_path):
    (tmp_path / "a.ply").write_bytes(ply(grid(), extra=""))
    np.testing.assert_allclose(read_cloud(tmp_path / "a.ply", size=(H, W))[1], np.array(grid()[1]))
    with pytest.raises(DataError, match=r"a\.ply holds 12 points as 1 x 12: it is not organised"):
        read_cloud(tmp_path / "a.ply")
    with pytest.raises(DataError, match=r"a\.ply holds 12 points as 1 x 12, 5 x 5 were"):
        read_cloud(tmp_path / "a.ply", size=(5, 5))
    (tmp_path / "a.pcd").write_bytes(pcd(grid()))
    with pytest.raises(DataError, match=r"a\.pcd is organised as 3 x 4, .* 4 x 3 pixels"):
        read_cloud(tmp_path / "a.pcd", size=(W, H))


def colours(seed=0):
    counts = np.random.default_rng(seed).integers(0, 256, (H, W, 3))
    return (counts / 255).astype(np.float32)


@pytest.mark.parametrize("name", ["little.ply", "packed.pcd"])
def test_colour_and_clouds_survive_the_conversion(tmp_path, name):
    origin, new = tmp_path / "raw", tmp_path / "new"
    suffix = name[-3:]
    for i, stem in enumerate(("part_b", "part_a", "lonely")):
        write_rgb(origin / f"rgb/{stem}.png", colours(i))
        (origin / suffix).mkdir(exist_ok=True)
        if stem != "lonely":
            (origin / suffix / f"{stem}.{suffix}").write_bytes(CLOUDS[name](grid(i)))
    done = convert(origin, new, split="train", kind="good", unit_m=0.001)
    assert (done.root, done.written) == (new, 2)
    assert [problem.source for problem in done.problems] == [str(origin / "rgb/lonely.png")]
    source = Mvtec3d(new)
    for seed, ref in zip((1, 0), source.refs, strict=True):
        sample = source.load(ref)
        assert (sample.split, sample.label) == ("train", 0)
        np.testing.assert_allclose(sample.xyz, in_metres(grid(seed)), rtol=1e-5)
        np.testing.assert_allclose(sample.rgb, colours(seed), atol=1e-6)
    rows = (new / "origin.csv").read_text().splitlines()
    assert rows[2] == f"train/good/rgb/001.png,{origin / 'rgb/part_b.png'}"


def test_depth_and_camera_survive_the_conversion(tmp_path):
    origin = tmp_path / "raw"
    counts = (np.arange(H * W, dtype=np.uint16) * 250).reshape(H, W)
    (origin / "depth").mkdir(parents=True)
    cv2.imwrite(str(origin / "depth/1.png"), counts)
    write_rgb(origin / "rgb/1.png", colours())
    camera = origin / "camera.json"
    camera.write_text(json.dumps({"fx": 8, "fy": 4, "cx": 1, "cy": 2}))
    with pytest.raises(DataError, match=r"depth/1\.png is a depth image, which needs"):
        convert(origin, tmp_path / "none", split="test", kind="cut", unit_m=0.001)
    convert(origin, tmp_path / "new", split="test", kind="cut", unit_m=0.001, intrinsics=camera)
    source = Mvtec3d(tmp_path / "new")
    sample = source.load(source.refs[0])
    z = counts * 0.001
    y, x = np.mgrid[:H, :W]
    xyz = np.stack([(x - 1) / 8 * z, (y - 2) / 4 * z, z], axis=2)
    np.testing.assert_allclose(sample.xyz, xyz, atol=1e-6)
    assert (sample.kind, sample.label, sample.mask) == ("cut", 1, None)


@pytest.mark.parametrize("layout", ["rgb and xyz", "manifest", "mvtec"])
def test_point_maps_in_millimetres_become_metres(tmp_path, layout):
    origin, xyz = tmp_path / "raw", np.full((H, W, 3), 400.0)
    target = origin / "test/cut" if layout == "mvtec" else origin
    write_rgb(target / "rgb/1.png", colours())
    write_xyz(target / "xyz/1.tiff", xyz)
    if layout == "manifest":
        origin = tmp_path / "parts.csv"
        origin.write_text("rgb,xyz\nraw/rgb/1.png,raw/xyz/1.tiff\n")
    with pytest.raises(DataError, match=r"1\.tiff are 692\.8 away .* millimetres"):
        convert(origin, tmp_path / "none", split="test", kind="cut")
    new = convert(origin, tmp_path / "new", split="test", kind="cut", unit_m=0.001).root
    source = Mvtec3d(new)
    np.testing.assert_allclose(source.load(source.refs[0]).xyz, xyz / 1000, rtol=1e-6)


def test_whole_counts_of_depth_need_a_unit_and_fractions_are_metres(tmp_path):
    write_rgb(tmp_path / "raw/rgb/1.png", colours())
    (tmp_path / "raw/depth").mkdir()
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"fx": 8, "fy": 4, "cx": 1, "cy": 2}))
    cv2.imwrite(str(tmp_path / "raw/depth/1.png"), np.full((H, W), 2, np.uint16))
    with pytest.raises(
        DataError, match=r"depth/1\.png holds integer counts .* metres of one count"
    ):
        convert(tmp_path / "raw", tmp_path / "a", split="test", kind="cut", intrinsics=camera)
    (tmp_path / "raw/depth/1.png").unlink()
    tifffile.imwrite(tmp_path / "raw/depth/1.tiff", np.full((H, W), 0.5, np.float32))
    convert(tmp_path / "raw", tmp_path / "b", split="test", kind="cut", intrinsics=camera)
    source = Mvtec3d(tmp_path / "b")
    assert (source.load(source.refs[0]).xyz[..., 2] == 0.5).all()


def test_what_a_unit_or_a_pair_has_no_place_in_is_told(tmp_path):
    (tmp_path / "raw/depth").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "raw/depth/1.png"), np.full((H, W), 2, np.uint16))
    table = tmp_path / "parts.csv"
    table.write_text("depth,depth_unit,fx,fy,cx,cy\nraw/depth/1.png,0.1,8,8,1,1\n")
    with pytest.raises(DataError, match=r"no point maps for a unit; depth has depth_unit"):
        convert(table, tmp_path / "new", split="test", kind="cut", unit_m=0.001)


def test_splits_kinds_and_masks_of_a_manifest_are_kept(tmp_path):
    mask = np.eye(H, W) > 0
    write_rgb(tmp_path / "a.png", colours())
    write_xyz(tmp_path / "a.tiff", np.ones((H, W, 3)))
    write_mask(tmp_path / "m.png", mask)
    table = tmp_path / "parts.csv"
    table.write_text("rgb,xyz,mask,kind,split\na.png,a.tiff,m.png,dent,test\n")
    convert(table, tmp_path / "new", split="train", kind="good")
    source = Mvtec3d(tmp_path / "new")
    assert [(ref.split, ref.kind) for ref in source.refs] == [("test", "dent")]
    np.testing.assert_array_equal(source.load(source.refs[0]).mask, mask)


def test_impossible_requests_are_refused(tmp_path):
    write_rgb(tmp_path / "raw/rgb/1.png", colours())
    with pytest.raises(DataError, match=r"could be converted.*rgb/1\.png has a kind and no split"):
        convert(tmp_path / "raw", tmp_path / "new", kind="good")
    for words, wrong in (
        ("The unit is", {"unit_m": float("inf")}),
        ("The split is", {"split": "dev"}),
        ("The kind is", {"kind": "../up"}),
    ):
        with pytest.raises(DataError, match=words):
            convert(tmp_path / "raw", tmp_path / "new", **wrong)
    with pytest.raises(DataError, match=r"raw is not empty"):
        convert(tmp_path / "raw", tmp_path / "raw", split="test", kind="cut")


def deep(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values)


def point_map(path, z=0.5):
    write_xyz(path, np.full((H, W, 3), z))


def test_the_bits_of_a_camera_are_told_by_the_brightest_of_all_images(tmp_path):
    for i, value in enumerate((4095, 100, 2000)):
        deep(tmp_path / f"raw/train/good/rgb/{i}.png", np.full((H, W), value, np.uint16))
        point_map(tmp_path / f"raw/train/good/xyz/{i}.tiff")
    done = convert(tmp_path / "raw", tmp_path / "new")
    assert "4095 of 65535, so that the camera has 12 bits" in done.remarks[0][0]
    source = Mvtec3d(tmp_path / "new")
    means = [source.load(ref).rgb.mean() for ref in source.refs]
    np.testing.assert_allclose(means, np.array([4095, 100, 2000]) / 4095, atol=0.5 / 255)
    whole = convert(tmp_path / "raw", tmp_path / "whole", bits=16)
    assert not whole.remarks
    assert Mvtec3d(whole.root).load(Mvtec3d(whole.root).refs[0]).rgb.max() < 0.1
    with pytest.raises(DataError, match=r"0\.png has the value 4095, which 10 bits do not hold"):
        convert(tmp_path / "raw", tmp_path / "less", bits=10, strict=True)
    with pytest.raises(DataError, match=r"another bits"):
        convert(tmp_path / "raw", tmp_path / "whole")


def test_images_of_all_16_bits_and_of_8_are_left_alone(tmp_path):
    deep(tmp_path / "a/train/good/rgb/0.png", np.full((H, W), 40000, np.uint16))
    deep(tmp_path / "b/train/good/rgb/0.png", np.full((H, W), 9, np.uint8))
    for name in "ab":
        point_map(tmp_path / f"{name}/train/good/xyz/0.tiff")
        assert not convert(tmp_path / name, tmp_path / f"new_{name}").remarks


def test_parts_of_3d_alone_and_their_colours_are_converted(tmp_path):
    (tmp_path / "raw/ply").mkdir(parents=True)
    (tmp_path / "raw/ply/a.ply").write_bytes(ply(grid()))
    done = convert(tmp_path / "raw", tmp_path / "new", split="train", kind="good", unit_m=0.001)
    (ref,) = Mvtec3d(done.root).refs
    sample = Mvtec3d(done.root).load(ref)
    assert sample.rgb is None and ref.source.endswith("xyz/000.tiff")
    np.testing.assert_allclose(sample.xyz, in_metres(grid()), rtol=1e-5)
    assert "train/good/xyz/000.tiff," in (done.root / "origin.csv").read_text()
    again = convert(tmp_path / "raw", tmp_path / "new", split="train", kind="good", unit_m=0.001)
    assert (again.written, again.kept) == (1, 1)
    coloured = ply(grid()).replace(b"uchar red", b"uchar intensity")
    (tmp_path / "grey/ply").mkdir(parents=True)
    (tmp_path / "grey/ply/a.ply").write_bytes(coloured)
    done = convert(tmp_path / "grey", tmp_path / "seen", split="train", kind="good", unit_m=0.001)
    sample = Mvtec3d(done.root).load(Mvtec3d(done.root).refs[0])
    np.testing.assert_allclose(sample.rgb, 7 / 255, atol=1e-6)
    assert "image of the part" in done.remarks[0][0]


def test_folders_of_split_and_kind_are_kept(tmp_path):
    for place in ("train/good", "test/dent"):
        (tmp_path / f"raw/{place}/pcd").mkdir(parents=True)
        (tmp_path / f"raw/{place}/pcd/1.pcd").write_bytes(pcd(grid()))
        write_rgb(tmp_path / f"raw/{place}/rgb/1.png", colours())
    write_mask(tmp_path / "raw/test/dent/gt/1.png", np.eye(H, W) > 0)
    convert(tmp_path / "raw", tmp_path / "new", unit_m=0.001)
    source = Mvtec3d(tmp_path / "new")
    assert [(ref.split, ref.kind) for ref in source.refs] == [("train", "good"), ("test", "dent")]
    np.testing.assert_array_equal(source.load(source.refs[1]).mask, np.eye(H, W) > 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("depth/1.png", r"raw has depth/ beside rgb/, such as .*1\.png.* data convert"),
        ("xyz/1.ply", r"raw has xyz/ beside rgb/, such as .*1\.ply"),
        ("xyz/1.stl", r"1\.stl is a 3D file .* mesh"),
        ("cloud/1.praw", r"1\.praw is a 3D file .* PhoXi"),
        ("depth/1.raw", r"1\.raw is a 3D file .* 16-bit PNG"),
        ("scans/1.zdf", r"1\.zdf is a 3D file .* Zivid Studio"),
        ("scans/1.ply", r"raw has scans/ beside rgb/, such as .*1\.ply"),
        ("Depth/1.png", r"raw has Depth/ beside rgb/, such as .*1\.png.* data convert"),
        ("aligned_depth_to_color/1.png", r"raw has aligned_depth_to_color/ beside rgb/"),
        ("disparity/1.png", r"disparity is called after disparities, .* baseline"),
        ("B/1.npy", r"B/ lies beside rgb/ and holds depth or points .*data convert"),
    ],
)
@pytest.mark.parametrize("place", ["", "train/good/"])
def test_3d_beside_colour_is_never_left_out_in_silence(tmp_path, place, name, words):
    write_rgb(tmp_path / f"raw/{place}rgb/1.png", colours())
    path = tmp_path / f"raw/{place}{name}"
    path.parent.mkdir()
    path.write_bytes(b"ply\n")
    with pytest.raises(
        DataError, match=words.replace("raw has", f"raw{'/' + place[:-1] if place else ''} has")
    ):
        open_source(tmp_path / "raw")


def test_folders_are_found_whatever_their_case_and_what_is_not_read_is_named(tmp_path):
    for folder, pixels in (("RGB", "colour"), ("Depth", "depth"), ("Normals", "colour")):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        path = tmp_path / "raw" / folder / "1.png"
        if pixels == "depth":
            deep(path, np.full((H, W), 500, np.uint16))
        else:
            write_rgb(path, colours())
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"fx": 20.0, "fy": 20.0, "cx": 3.0, "cy": 2.0}))
    done = convert(tmp_path / "raw", tmp_path / "new", unit_m=0.001, intrinsics=camera)
    sample = open_source(done.root).load(open_source(done.root).refs[0])
    assert sample.rgb is not None and sample.xyz[..., 2].max() == np.float32(0.5)
    assert any("Normals/ is not read" in sentence for sentence, _ in done.remarks)


def test_npy_point_maps_are_read_as_they_are(tmp_path):
    for place in ("plain", "parts/train/good"):
        write_rgb(tmp_path / place / "rgb/1.png", colours())
        (tmp_path / place / "xyz").mkdir()
        xyz = in_metres(grid())
        xyz[0, 0] = np.nan
        np.save(tmp_path / place / "xyz/1.npy", xyz)
        source = open_source(tmp_path / place.split("/")[0])
        sample = source.load(source.refs[0])
        np.testing.assert_array_equal(sample.xyz, np.nan_to_num(xyz))
        assert not sample.valid[0, 0]


def test_one_file_in_two_roles_is_refused(tmp_path):
    for name in ("rgb", "depth"):
        deep(tmp_path / f"raw/{name}/1.png", np.full((H, W), 500, np.uint16))
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"fx": 8, "fy": 4, "cx": 1, "cy": 2}))
    with pytest.raises(DataError, match=r"rgb/1\.png and .*depth/1\.png are the same file"):
        convert(
            tmp_path / "raw",
            tmp_path / "new",
            split="test",
            kind="cut",
            unit_m=0.001,
            intrinsics=camera,
        )


def test_parts_of_unknown_quality_need_no_invented_kind(tmp_path):
    for number in range(2):
        write_rgb(tmp_path / f"raw/rgb/{number}.png", colours())
        (tmp_path / "raw/xyz").mkdir(exist_ok=True)
        np.save(tmp_path / f"raw/xyz/{number}.npy", np.ones((H, W, 3), np.float32))
    convert(tmp_path / "raw", tmp_path / "new")
    source = open_source(tmp_path / "new")
    assert [(ref.label, ref.split, ref.kind) for ref in source.refs] == [(None, "", "")] * 2
    np.testing.assert_array_equal(source.load(source.refs[0]).xyz, 1)
    assert (tmp_path / "new/origin.csv").read_text().splitlines()[1].startswith("rgb/000.png,")
    assert convert(tmp_path / "raw", tmp_path / "new").kept == 2


def test_parts_to_train_on_are_good_where_nobody_says_otherwise(tmp_path):
    write_rgb(tmp_path / "raw/rgb/1.png", colours())
    (tmp_path / "raw/xyz").mkdir()
    np.save(tmp_path / "raw/xyz/1.npy", np.ones((H, W, 3), np.float32))
    convert(tmp_path / "raw", tmp_path / "new", split="train")
    assert [(r.split, r.kind) for r in Mvtec3d(tmp_path / "new").refs] == [("train", "good")]
    with pytest.raises(DataError, match="give both"):
        convert(tmp_path / "raw", tmp_path / "other", split="test")


@pytest.mark.parametrize("name", ["a.npy", "replay.csv"])
def test_a_folder_or_file_of_3d_alone_is_converted_as_it_lies_there(tmp_path, name):
    folder = tmp_path / "raw"
    folder.mkdir()
    if name == "a.npy":
        np.save(folder / name, in_metres(grid()))
    else:
        rows = "\n".join(f"{i},1,2,{i}" for i in range(4))
        (folder / name).write_text(
            f"CSV Version,XResolution\n2,1\nPart\nY\\X,0,9,18\n{rows}\nEnd\n"
        )
    with pytest.raises(DataError, match=rf"raw holds 3D files, such as .*{name}.* data convert"):
        open_source(folder)
    expected = (H, W, 3) if name == "a.npy" else (4, 3, 3)
    for i, origin in enumerate((folder, folder / name)):
        done = convert(origin, tmp_path / str(i), split="train", kind="good")
        sample = Mvtec3d(done.root).load(Mvtec3d(done.root).refs[0])
        assert sample.rgb is None and sample.xyz.shape == expected
