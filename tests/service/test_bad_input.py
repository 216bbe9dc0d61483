"""Broken input: the answer is a status of 4xx and a sentence, and the next request succeeds."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stub_service import Start, grey, plane, png, tiff

from chiasm.service.multipart import LONGEST_NAME, safe_name

URL = "/v1/models/gland/predict"


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=array.dtype.hasobject)
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros((4000, 4000, 3), np.float32))
    return stream.getvalue()


def png_bomb() -> bytes:
    """60,000 x 60,000 white pixels in a few kilobytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_bomb() -> bytes:
    """A JPEG whose frame header declares 65,500 x 65,500."""
    content = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(content)


def tiff_bomb(path: Path) -> bytes:
    """A TIFF of 32 x 32 points that declares 20,000 x 20,000."""
    tiff(plane(), path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages.first.tags[name].overwrite(20_000)
    return path.read_bytes()


def npy_bomb() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000, 3)}"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


@pytest.fixture(scope="module")
def whole_tiff(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiff(plane(), tmp_path_factory.mktemp("tiff") / "a.tiff")


BROKEN = {
    "zip bomb": ("rgb", npz(), "archive"),
    "png bomb": ("rgb", png_bomb(), "60000 x 60000"),
    "jpeg bomb": ("rgb", jpeg_bomb(), "65500 x 65500"),
    "npy bomb": ("xyz", npy_bomb(), "at most"),
    "pickled npy": ("xyz", npy(np.array([{}, []], dtype=object)), "numbers were expected"),
    "empty": ("rgb", b"", "empty"),
    "text": ("rgb", b"hello", "is not a PNG"),
    "truncated png": ("rgb", grey(0.2)[:30], "cut short"),
    "damaged png": ("rgb", grey(0.2)[:60], "damaged"),
    "1x1": ("rgb", png(np.zeros((1, 1, 3), np.uint8)), "smaller than 8"),
    "nan colours": ("rgb", npy(np.full((32, 32, 3), np.nan, np.float32)), "NaN"),
    "infinite colours": ("rgb", npy(np.full((32, 32, 3), np.inf)), "NaN"),
    "wrong shape": ("xyz", npy(np.zeros((32, 32), np.float32)), "intrinsics"),
    "whole numbers": ("xyz", npy(np.zeros((32, 32, 3), np.int64)), "float32"),
    "picture as points": ("xyz", grey(0.2), "uint8"),
    "cut npy": ("xyz", npy(plane())[:-5], "cut short"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_in_a_sentence(start: Start, part, case: str):
    role, content, word = BROKEN[case]
    client = start().client
    answer = client.post(URL, files={**part, role: ("file.dat", content)})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert word in error["message"]
    assert "Traceback" not in answer.text
    row = client.get("/v1/verdicts").json()["verdicts"][0]
    assert row["decision"] == "error"
    assert row["error"] == error["message"]
    assert client.post(URL, files=part).status_code == 200


def test_a_tiff_bomb_is_not_unpacked(start: Start, part, tmp_path: Path):
    bomb = tiff_bomb(tmp_path / "bomb.tiff")
    answer = start().client.post(URL, files={**part, "xyz": ("b.tiff", bomb)})
    assert answer.status_code == 422
    assert "20000 x 20000" in answer.json()["error"]["message"]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_truncated_tiffs_are_refused(start: Start, part, whole_tiff: bytes, share: float):
    cut = whole_tiff[: int(share * len(whole_tiff))]
    answer = start().client.post(URL, files={**part, "xyz": ("b.tiff", cut)})
    assert answer.status_code == 422, answer.text


BAD_REQUESTS = {
    "unknown model": {
        "url": "/v1/models/none/predict",
        "files": {"rgb": ("a", b"x")},
        "status": 404,
    },
    "no multipart": {"json": {"rgb": 1}, "status": 415},
    "no boundary": {
        "content": b"x",
        "headers": {"content-type": "multipart/form-data"},
        "status": 400,
    },
    "damaged": {
        "content": b"--x\r\nfoo\r\n",
        "headers": {"content-type": "multipart/form-data; boundary=x"},
        "status": 400,
    },
    "unknown field": {"files": {"colour": ("a.png", grey(0.2))}, "status": 422},
    "text for a file": {"data": {"rgb": "x"}, "files": {"xyz": ("a", b"x")}, "status": 422},
    "twice": {"files": [("rgb", ("a", b"x")), ("rgb", ("b", b"y"))], "status": 422},
    "many": {"files": [(f"f{i}", ("a", b"x")) for i in range(40)], "status": 400},
    "depth without camera": {"files": {"depth": ("a.png", grey(0.2))}, "status": 422},
    "camera of words": {
        "files": {"depth": ("a.png", grey(0.2))},
        "data": {"fx": "x", "fy": "1", "cx": "1", "cy": "1"},
        "status": 422,
    },
    "unit of nothing": {
        "files": {"depth": ("a.png", grey(0.2))},
        "data": {"fx": "1", "fy": "1", "cx": "1", "cy": "1", "depth_unit": "nan"},
        "status": 422,
    },
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests_are_refused_in_a_sentence(start: Start, case: str):
    request = dict(BAD_REQUESTS[case])
    status = request.pop("status")
    answer = start().client.post(request.pop("url", URL), **request)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"].endswith((".", "!"))


@pytest.mark.parametrize("charset", ["utf-7", "undefined", "hex", "utf-16"])
def test_text_of_other_charsets_is_refused_and_the_log_goes_on(start: Start, part, charset: str):
    def field(name: str, value: bytes, more: str = "") -> bytes:
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        return head.encode() + value + b"\r\n"

    client = start(timeout=2.0).client
    body = field("fx", b"+2AA-") + b"".join(field(name, b"1") for name in ("fy", "cx", "cy"))
    body += field("depth", grey(0.2), '; filename="a.png"') + b"--x--\r\n"
    kind = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = client.post(URL, content=body, headers=kind)
    assert answer.status_code == 400
    assert "UTF-8" in answer.json()["error"]["message"]
    assert client.post(URL, files=part).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_an_unexpected_error_is_logged(start: Start, part):
    service = start()

    def fail() -> None:
        raise ZeroDivisionError("a bug \ud800")

    service.loaded[0].before_prepare = fail
    answer = service.client.post(URL, files=part)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    row = service.client.get("/v1/verdicts").json()["verdicts"][0]
    assert row["decision"] == "error"
    assert "ZeroDivisionError: a bug" in row["error"]
    assert row["source"] == "part.png"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/none", 404),
        ("/v1/models/%2e%2e%2fetc", 404),
        ("/v1/verdicts/" + "0" * 32, 404),
        ("/v1/verdicts/zz", 422),
        ("/v1/verdicts/" + "0" * 32 + "/map.png", 404),
        ("/v1/verdicts?limit=0", 422),
        ("/v1/verdicts?since=yesterday", 422),
        ("/v1/nothing", 404),
        ("/v1/models/gland/predict", 405),
    ],
)
def test_addresses_without_answer(start: Start, path: str, status: int):
    answer = start().client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


@given(st.text(max_size=400))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_names_are_names_alone(name: str):
    safe = safe_name(name)
    assert 0 < len(safe) <= LONGEST_NAME
    assert not set(safe) & set("/\\\0\n\r\x1b‮")
    assert safe not in (".", "..")
    assert safe_name(safe) == safe


def test_hostile_names_are_cleaned_in_the_log(start: Start, part):
    client = start().client
    for name in ("../../etc/passwd", "C:\\x\\a\x1b[31m.png", "a" * 900 + ".png", "\u202egnp.exe"):
        answer = client.post(URL, files={**part, "rgb": (name, part["rgb"][1])})
        assert answer.status_code == 200
        source = answer.json()["source"]
        assert source == safe_name(name)
        assert len(source) <= LONGEST_NAME
    longer = client.post(URL, files={**part, "rgb": ("a" * 10_000, part["rgb"][1])})
    assert longer.status_code == 400


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_byte_may_be_wrong(fuzzed, part, whole_tiff: bytes, data: st.DataObject):
    role = data.draw(st.sampled_from(["rgb", "xyz"]))
    content = bytearray(part[role][1] if role == "rgb" else whole_tiff)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    answer = fuzzed.post(URL, files={**part, role: ("f", bytes(content))})
    assert answer.status_code in (200, 422), answer.text


@pytest.fixture
def fuzzed(start: Start):
    return start().client
