"""An operator checks parts."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from stub_models import write_part

OpenPage = Callable[..., Page]


def logged(page: Page) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{page.address}v1/verdicts") as answer:
        return json.load(answer)["verdicts"]


def test_uploads_become_verdicts(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.pick(
        [*write_part(tmp_path, "lid_2", spot=True), *write_part(tmp_path, "lid_10", spot=False)]
    )
    assert page.verdicts(2) == {"lid_2": "Defective", "lid_10": "Good"}
    assert page.text(".banner h2") == "Defective"
    assert "Only about 1 in 100 good parts" in page.text(".banner")
    assert "lid_10: Good" in page.script("return document.querySelector('main + p').innerText")
    page.pictures_are_there()
    assert "99 good parts" in page.text("[aria-labelledby=scale-heading]")
    page.all("[role=option]")[1].click()
    page.wait(lambda: page.text(".banner h2") == "Good")


def test_the_map_is_over_the_part_as_strongly_as_asked(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.pick(write_part(tmp_path, "lid", spot=True))
    page.verdicts(1)
    page.pictures_are_there()
    opacity = "return getComputedStyle(document.querySelector('img.over')).opacity"
    before = float(page.script(opacity))
    page.one(".slider input").send_keys("\ue012" * 5)  # arrow left
    assert float(page.script(opacity)) < before
    page.one("input[type=checkbox]").click()
    page.wait(lambda: float(page.script(opacity)) == 0)
    boxes = page.script(
        "return [...document.querySelectorAll('figure .frame')].map(f => [...f.children].map(i => "
        "{const r = i.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]}))"
    )
    assert all(ground == pytest.approx(over, abs=0.5) for ground, over in boxes)


def test_corrections_reach_the_log(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.pick([*write_part(tmp_path, "a", spot=True), *write_part(tmp_path, "b", spot=False)])
    page.verdicts(2)
    page.button("False alarm", ".banner").click()
    page.wait(lambda: "Noted: false alarm" in page.text(".banner"))
    page.all("[role=option]")[1].click()
    page.wait(lambda: page.text(".banner h2") == "Good")
    page.button("Missed a defect", ".banner").click()
    page.wait(lambda: "Noted: missed" in page.text(".banner"))
    corrections = {row["source"]: row["correction"]["says"] for row in logged(page)}
    assert corrections == {"a_rgb.png": "false alarm", "b_rgb.png": "missed"}


def test_errors_are_sentences_beside_the_file(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    files = write_part(tmp_path, "torn", spot=False)
    files[1].write_bytes(files[1].read_bytes()[:200])
    strange = tmp_path / "notes.docx"
    strange.write_bytes(b"no part")
    page.pick([*files, strange])
    assert page.verdicts(2) == {"torn": "Not checked", "notes.docx": "Not checked"}
    messages = [element.text for element in page.all("[role=option] .message")]
    assert any("torn_xyz.tiff" in message and message.endswith(".") for message in messages)
    assert any("notes.docx is not a file that this model reads" in m for m in messages)
    write_part(tmp_path, "torn", spot=False)
    page.button("Clear list").click()
    page.pick(files)
    assert page.verdicts(1) == {"torn": "Good"}


def test_halves_of_a_part_find_each_other(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    colour, shape = write_part(tmp_path, "007", spot=False, split=True)
    page.pick([colour])
    assert page.verdicts(1) == {"007": "Incomplete"}
    assert "Waits for its 3D file." in page.text("[role=option]")
    page.pick([shape])
    assert page.verdicts(1) == {"007": "Good"}


def test_files_can_be_dropped(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    drop = """
        const files = new DataTransfer();
        for (const [name, bytes] of arguments[0])
            files.items.add(new File([new Uint8Array(bytes)], name));
        for (const kind of ["dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(kind,
                {bubbles: true, cancelable: true, dataTransfer: files}));
    """
    files = write_part(tmp_path, "dropped", spot=True)
    page.script(drop, [[file.name, list(file.read_bytes())] for file in files])
    assert page.verdicts(1) == {"dropped": "Defective"}


def test_depth_waits_for_its_camera(open_page: OpenPage, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    page = open_page()
    colour, _ = write_part(tmp_path, "far", spot=False)
    depth = tmp_path / "far_depth.png"
    assert cv2.imwrite(str(depth), np.full((96, 96), 450, np.uint16))
    page.pick([colour, depth])
    assert page.verdicts(1) == {"far": "Incomplete"}
    assert "Waits for the camera" in page.text("[role=option]")
    for field, value in zip(page.all("input[type=number]"), ("300", "300", "48", "48")):
        field.send_keys(value)
    page.one("h1").click()
    assert page.verdicts(1) == {"far": "Good"}
