"""Registration of two cameras against a scene that is computed ray by ray, and against OpenCV."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

from chiasm.detection.readers.camera import (
    Intrinsics,
    back_project,
    distorted,
    rays,
    read_intrinsics,
)
from chiasm.detection.sensors.registration import (
    read_extrinsic,
    register_colour,
    register_points,
    scaled_to,
)
from chiasm.errors import DataError

LENS = (0.12, -0.2, 0.002, -0.001, 0.05)
DEPTH = Intrinsics(60.0, 62.0, 31.0, 24.5, distortion=(-0.05, 0.02, 0.001, 0.0))
COLOUR = Intrinsics(130.0, 128.0, 70.0, 45.0, distortion=LENS)
SIZE, COLOUR_SIZE = (48, 64), (96, 144)


def pose(degrees: float = 12.0, shift=(-0.15, 0.01, 0.005)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array([0.3, 1.0, 0.2]) * math.radians(degrees))[0]
    matrix[:3, 3] = shift
    return matrix


POSE = pose()
# A square plate 0.24 m above a plane: depth camera's frame, metres.
FAR, NEAR, EDGE = 0.6, 0.36, (-0.06, 0.04, -0.05, 0.05)


def hit(origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the first point of the scene on a ray."""
    for z in (NEAR, FAR):
        point = origin + direction * (z - origin[2]) / direction[2]
        on_plate = EDGE[0] <= point[0] <= EDGE[1] and EDGE[2] <= point[1] <= EDGE[3]
        if z == FAR or on_plate:
            return point
    raise AssertionError


def paint(point: np.ndarray) -> np.ndarray:
    """Return the colour of a point of the scene, smooth on each surface."""
    x, y, z = point
    return np.array([0.5 + x / 2, 0.5 + y / 2, 0.9 if z < 0.55 else 0.2], np.float32)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Depth ``(H, W)`` and colours ``(H', W', 3)``, ray by ray with OpenCV's undistortion."""
    images = []
    back = np.linalg.inv(POSE)
    for camera, size, frame in ((DEPTH, SIZE, np.eye(4)), (COLOUR, COLOUR_SIZE, back)):
        matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
        image = np.zeros((*size, 3), np.float32)
        rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float64)
        pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
        start = cv2.undistortPoints(pixels, matrix, np.array(camera.distortion))
        x, y = start.reshape(*size, 2).transpose(2, 0, 1)
        for _ in range(50):  # OpenCV stops early
            shown_x, shown_y = distort(camera, x, y)
            x, y = x + (columns - shown_x) / camera.fx, y + (rows - shown_y) / camera.fy
        for row, column in np.ndindex(size):
            direction = frame[:3, :3] @ np.array([x[row, column], y[row, column], 1.0])
            point = hit(frame[:3, 3], direction)
            image[row, column] = point[2] if frame is not back else paint(point)
        images.append(image)
    return images[0][..., 2], images[1]


def distort(camera: Intrinsics, x, y):
    """Return the pixel of a point at a distance of 1, by a formula of its own."""
    k1, k2, p1, p2, k3 = (*camera.distortion, 0.0)[:5]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    shown_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    shown_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return camera.fx * shown_x + camera.cx, camera.fy * shown_y + camera.cy


def by_loop(depth: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each depth pixel its point, its place in the colour image, and what hides it."""
    found = {
        "point": np.zeros((*SIZE, 3)),
        "place": np.zeros((*SIZE, 2)),
        "hidden": np.zeros(SIZE, bool),
    }
    eye = np.linalg.inv(POSE)[:3, 3]
    across = rays(DEPTH, SIZE)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            x, y = across[row, column]
            point = np.array([x, y, 1.0]) * depth[row, column]
            seen = POSE[:3, :3] @ point + POSE[:3, 3]
            found["point"][row, column] = point
            found["place"][row, column] = distort(COLOUR, seen[0] / seen[2], seen[1] / seen[2])
            first = hit(eye, point - eye)
            found["hidden"][row, column] = np.linalg.norm(first - point) > 0.01
    return found


def near_an_edge(mask: np.ndarray) -> np.ndarray:
    edges = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    return edges > 0


def registered(rgb, depth, **changes):
    cameras = {"depth_camera": DEPTH, "colour_camera": COLOUR, "extrinsic": POSE}
    return register_colour(rgb, depth, **cameras | changes)


@pytest.mark.parametrize("form", [np.float32, np.uint8])
def test_colours_are_those_of_the_points_and_hidden_ones_have_none(scene, form):
    depth, rgb = scene
    scale = 255 if form is np.uint8 else 1
    result = registered((rgb * scale).astype(form), depth)
    expected = by_loop(depth)
    u, v = np.moveaxis(expected["place"], 2, 0)
    outside = (u < -0.5) | (v < -0.5) | (u > COLOUR_SIZE[1] - 0.5) | (v > COLOUR_SIZE[0] - 0.5)
    np.testing.assert_array_equal(result.outside, outside)
    unsure = near_an_edge(expected["hidden"]) | near_an_edge(depth < 0.55) | near_an_edge(outside)
    assert expected["hidden"].sum() > 50 and unsure.mean() < 0.4
    np.testing.assert_array_equal(result.hidden[~unsure], (expected["hidden"] & ~outside)[~unsure])
    sure = ~(unsure | result.hidden | outside)
    painted = np.array([paint(point) for point in expected["point"][sure]])
    np.testing.assert_allclose(result.rgb[sure] / scale, painted, atol=0.01)
    assert not result.rgb[result.hidden | result.outside].any()
    assert any("hidden from the colour camera" in remark for remark in result.remarks)


def test_no_visible_pixel_is_called_hidden_on_tilted_surfaces():
    """By up to 60 degrees, where points of one surface lie far apart for the other camera."""
    across = rays(DEPTH, SIZE)
    for slope in (0.0, -1.0, 1.0, 1.7):
        depth = (0.5 / (1 - slope * across[..., 0])).astype(np.float32)
        depth[(depth < 0.2) | (depth > 1)] = 0
        result = registered(np.full((*COLOUR_SIZE, 3), 0.5, np.float32), depth)
        assert not result.hidden[depth > 0].any()


def test_pixels_without_depth_take_the_place_of_the_nearest_with_depth(scene):
    depth, rgb = scene
    holes = np.random.default_rng(0).random(SIZE) < 0.2
    full, with_holes = registered(rgb, depth), registered(rgb, np.where(holes, 0, depth))
    apart = near_an_edge(depth < 0.55) | near_an_edge(full.hidden | full.outside)
    apart |= full.hidden | with_holes.hidden
    np.testing.assert_allclose(with_holes.rgb[~apart], full.rgb[~apart], atol=0.01)


def test_points_in_the_colour_camera_lie_on_the_scene(scene):
    """The other direction: the nearest surface covers a pixel, without holes in it."""
    depth, _ = scene
    xyz = register_points(
        depth,
        depth_camera=DEPTH,
        colour_size=COLOUR_SIZE,
        colour_camera=COLOUR,
        extrinsic=POSE,
    )
    back = np.linalg.inv(POSE)
    points = xyz[xyz[..., 2] > 0] @ back[:3, :3].T + back[:3, 3]
    to_surface = np.minimum(np.abs(points[:, 2] - NEAR), np.abs(points[:, 2] - FAR))
    assert np.percentile(to_surface, 99) < 2e-3
    rows, columns = (
        np.argwhere(xyz[..., 2] > 0).min(axis=0),
        np.argwhere(xyz[..., 2] > 0).max(axis=0),
    )
    inner = xyz[rows[0] + 12 : columns[0] - 12, rows[1] + 12 : columns[1] - 12, 2]
    plate = np.array([np.linalg.norm(p - hit(back[:3, 3], p - back[:3, 3])) for p in points[::7]])
    assert np.mean(plate > 0.01) < 0.02  # of a surface behind, through holes of the nearer one
    assert np.mean(inner == 0) < 0.1  # what no pixel of depth sees


def test_distortion_is_opencvs():
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (50, 2))
    for lens in ((), LENS[:4], LENS, (*LENS, 0.01, 0.02, -0.01), (*LENS, *[0.01] * 7)):
        shown = distorted(lens, *points.T)
        spread = np.column_stack([points, np.ones(50)])
        expected, _ = cv2.projectPoints(
            spread, np.zeros(3), np.zeros(3), np.eye(3), np.array(lens) if lens else None
        )
        np.testing.assert_allclose(np.column_stack(shown), expected[:, 0], atol=1e-9)
        camera = Intrinsics(50.0, 50.0, 20.0, 20.0, distortion=lens)
        across = rays(camera, (40, 40)).reshape(-1, 2).astype(np.float64)
        pixels = np.column_stack(distorted(lens, *across.T)) * 50 + 20
        rows, columns = np.divmod(np.arange(1600), 40)
        np.testing.assert_allclose(pixels, np.column_stack([columns, rows]), atol=1e-3)


def test_the_points_of_a_depth_image_are_without_distortion(scene):
    depth, _ = scene
    np.testing.assert_allclose(back_project(depth, DEPTH), by_loop(depth)["point"], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extrinsic": pose(shift=(1.5, 0, 0))}, "No point of the depth image lies in the colour"),
        ({"colour_camera": Intrinsics(130, 130, 70, 45, width=100, height=100)}, "another camera"),
    ],
)
def test_cameras_that_cannot_be_right_are_refused(scene, changes, words):
    depth, rgb = scene
    with pytest.raises(DataError, match=words):
        registered(rgb, depth, **changes)
    with pytest.raises(DataError, match="no measured pixel"):
        registered(rgb, np.zeros_like(depth))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(POSE.tolist())),
        ("a.json", json.dumps({"T": POSE.ravel().tolist()})),
        ("a.json", json.dumps({"depth_to_color": POSE[:3].tolist()})),
        ("a.json", json.dumps({"extrinsic": POSE.T.ravel().tolist()})),  # by columns, as Open3D
        (
            "a.yaml",
            json.dumps(
                {"R": {"data": POSE[:3, :3].ravel().tolist()}, "t": {"data": POSE[:3, 3].tolist()}}
            ),
        ),
        (
            "a.yml",
            json.dumps({"rotation": POSE[:3, :3].tolist(), "translation": POSE[:3, 3].tolist()}),
        ),
    ],
)
def test_an_extrinsic_is_read_in_every_notation(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    np.testing.assert_allclose(read_extrinsic(tmp_path / name), POSE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[1, 2]", "holds no extrinsic"),
        ('{"rotation": "x", "translation": [0, 0, 0]}', "numbers were expected"),
        (json.dumps((2 * np.eye(4)).tolist()), "last row"),
        (json.dumps(np.diag([2.0, 1, 1, 1]).tolist()), "holds no rotation"),
        (json.dumps(np.diag([-1.0, 1, 1, 1]).tolist()), "mirrors"),
        (json.dumps(pose(shift=(-60, 10, 5)).tolist()), "millimetres divided by 1000"),
    ],
)
def test_what_is_no_rigid_motion_in_metres_is_refused(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=words):
        read_extrinsic(tmp_path / "a.json")


def test_whole_ratios_of_one_camera_are_scaled():
    image = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    blocks = image.reshape(2, 2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(scaled_to(image, (2, 3)), blocks)
    mask = np.zeros((4, 6), bool)
    mask[3, 1] = True
    np.testing.assert_array_equal(scaled_to(mask, (2, 3), mask=True), [[0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(
        scaled_to(mask, (8, 12), mask=True), np.kron(mask, np.ones((2, 2)))
    )
    assert scaled_to(image, (8, 12)).shape == (8, 12, 3)
    assert scaled_to(image, (3, 3)) is scaled_to(image, (2, 2)) is scaled_to(image, (3, 4)) is None


@pytest.mark.parametrize("model", ["equidistant", "fisheye", "distortion.inverse_brown_conrady"])
def test_coefficients_of_another_lens_are_refused(tmp_path, model):
    facts = {"fx": 60.0, "fy": 60.0, "cx": 31.0, "cy": 24.0, "distortion_model": model}
    path = tmp_path / "camera.json"
    path.write_text(json.dumps({**facts, "D": [0.0, 0.0, 0.0, 0.0]}))
    assert read_intrinsics(path).distortion == ()
    path.write_text(json.dumps({**facts, "D": [0.1, 0.0, 0.0, 0.0]}))
    with pytest.raises(DataError, match=f"lens model '{model}', and Brown's"):
        read_intrinsics(path)
    path.write_text(json.dumps({**facts, "D": [0.1, 0, 0, 0], "distortion_model": "plumb_bob"}))
    assert read_intrinsics(path).distortion == (0.1, 0.0, 0.0, 0.0)
