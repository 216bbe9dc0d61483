"""Notations of a camera's facts: names in plain words, text that is no JSON, and nested levels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from chiasm.errors import DataError

# COLMAP's models and what their numbers are, behind id, model, width and height.
_COLMAP = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": (*("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),),
}
_LENGTHS = (4, 5, 8, 12, 14)  # of OpenCV's lists of coefficients
_SECTION = re.compile(r"\[\s*([^\]]+?)\s*\]")
_FACT = re.compile(r"([A-Za-z][\w .-]*?)\s*[:=]\s*(.+)")
_LENSES = ("distortion", "distortioncoefficients", "lens", "lensdistortion")

_DISTORTIONS = (
    *("distortion", "distortioncoefficients", "distcoeffs", "distcoeff", "coeffs", "d", "dist"),
    *("distortionparameters", "distortioncoeffs"),
)
_MODELS = ("distortionmodel", "model", "cameramodel", "cameratype")
_OTHER_LENSES = re.compile(
    r"fisheye|equidistant|kannala|theta|ftheta|inverse|omni|\beucm|\bds\b", re.IGNORECASE
)
_COUNTS_OF_METRE = ("factordepth", "depthmapfactor", "pngdepthscale", "depthfactor")


def plain_name(name: Any) -> str:
    """Return a name in lower case without blanks, hyphens and underscores.

    Example:
        >>> plain_name("Camera_Matrix")
        'cameramatrix'
    """
    return str(name).lower().replace("_", "").replace("-", "").replace(" ", "")


def facts_of_text(text: str) -> dict[str, Any] | None:
    """Return the facts of a text that is no JSON, or None where it has none.

    Known are lines such as ``fx: 600`` and ``fx = 600``, in sections such as ``[DepthIntrinsic]``,
    and COLMAP's lists of cameras.

    Example:
        >>> facts_of_text("[Depth]\\nfx = 600\\nfy = 601")
        {'Depth': {'fx': 600.0, 'fy': 601.0}}
    """
    facts: dict[str, Any] = {}
    level = facts
    for line in text.splitlines():
        line = line.split("#")[0].strip().rstrip(",;")
        words = line.split()
        if len(words) > 4 and words[1] in _COLMAP:
            camera = dict(zip(_COLMAP[words[1]], map(_number, words[4:])))
            size = {"width": _number(words[2]), "height": _number(words[3])}
            # Not 'camera 1', which is the left one of a stereo camera.
            facts[f"colmap {words[0]}"] = {**camera, **size}
        elif section := _SECTION.fullmatch(line):
            level = facts.setdefault(section[1], {})
        elif fact := _FACT.fullmatch(line):
            level[fact[1]] = _number(fact[2].strip())
    return facts or None


def _number(text: str) -> Any:
    """Return a number, a list of numbers, or the text as it is."""
    words = text.strip("[]()").replace(",", " ").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return text
    return numbers[0] if len(numbers) == 1 else numbers


def without_dots(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return names such as ``Camera1.fx`` as levels: ``{"Camera1": {"fx": ...}}``."""
    levels: dict[str, Any] = {}
    for name, value in values.items():
        outer, dot, inner = str(name).rpartition(".")
        if dot and isinstance(levels.setdefault(outer, {}), dict):
            levels[outer][inner] = value
        else:
            levels[name] = value
    return levels


def levels_of(
    values: Mapping[str, Any], name: str = "", outer: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the name of each level of a mapping, its facts, and those of the levels around it.

    Facts have plain names. A lens that is a level of its own belongs to the level around it.
    """
    facts = {plain_name(key): value for key, value in without_dots(values).items()}
    for key in _LENSES:
        lens = facts.get(key)
        if isinstance(lens, Mapping) and "data" not in lens:
            facts |= {plain_name(k): v for k, v in lens.items()}
    yield name, facts, dict(outer or {})
    around = {**(outer or {}), **facts}
    for key, value in facts.items():
        if isinstance(value, Mapping) and key not in _LENSES:
            yield from levels_of(value, f"{name}.{key}".strip("."), around)


def matrix_data(value: Any) -> Any:
    """Return the numbers of a matrix, which OpenCV and ROS write below ``data``."""
    return value.get("data") if isinstance(value, Mapping) else value


def lens_of(facts: Mapping[str, Any], source: str) -> tuple[float, ...]:
    """Return the coefficients of a lens in OpenCV's order; () without any.

    Raises:
        DataError: they are of another model than Brown's, or of no known number; ``source`` names
            their file.
    """
    coefficients = _distortion(facts, source)
    model = next((facts[name] for name in _MODELS if isinstance(facts.get(name), str)), None)
    model = next((n for n in facts if "fisheye" in n and _is_set(facts[n])), model)
    if not coefficients or model is None or not _OTHER_LENSES.search(model):
        return coefficients
    raise DataError(
        f"{source} has coefficients of the lens model '{model}', and Brown's model was expected "
        "(plumb_bob, rational_polynomial). Take the distortion out of the images with the sensor's "
        "own program, or write 0 for the coefficients where they are worth less than a pixel."
    )


def _is_set(value: Any) -> bool:
    """Return whether a flag is set, which files also write in words."""
    return str(value).strip().lower() in ("true", "yes", "on", "1", "1.0")


def _distortion(facts: Mapping[str, Any], source: str) -> tuple[float, ...]:
    for name in _DISTORTIONS:
        try:
            values = np.asarray(matrix_data(facts.get(name)), dtype=np.float64).ravel()
        except (TypeError, ValueError):
            continue
        if values.size < 2 or not np.isfinite(values).all():
            continue
        if values.any() and values.size not in _LENGTHS:
            raise DataError(
                f"{source} has {values.size} coefficients of a lens below '{name}', and OpenCV's "
                f"lists have {', '.join(map(str, _LENGTHS))}: write k1, k2, p1, p2, k3, with 0 for "
                "those that it has not."
            )
        return tuple(float(v) for v in values) if values.any() else ()
    if of_matlab := _lens_of_matlab(facts):
        return of_matlab
    named = [facts.get(name, 0.0) for name in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")]
    try:
        numbers = tuple(float(value) for value in named)
    except (TypeError, ValueError):
        return ()
    if numbers[5] and not {"k5", "k6", "p1", "p2"} & facts.keys():
        raise DataError(
            f"{source} has k1 to k4 alone, as the lens model of a fisheye, and Brown's model was "
            "expected: take the distortion out of the images with the sensor's own program, or "
            "name all of k1, k2, p1, p2, k3, k4, k5 and k6."
        )
    if not any(numbers):
        return ()
    return numbers if any(numbers[5:]) else numbers[:5]


def depth_unit_of(facts: Mapping[str, Any]) -> float | None:
    """Return the metres of one count of depth, where the facts of a camera say it."""
    try:
        counts = next((facts[name] for name in _COUNTS_OF_METRE if name in facts), None)
        if counts is not None:
            unit = 1 / float(np.squeeze(counts))
        elif "depthscale" in facts:
            scale = float(np.squeeze(facts["depthscale"]))
            # BOP's is in millimetres, RealSense's in metres, others count those of one metre.
            unit = scale * 1e-3 if 0.05 <= scale < 10 else 1 / scale if scale >= 10 else scale
        else:
            return None
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return unit if 0 < unit < np.inf else None


def _lens_of_matlab(facts: Mapping[str, Any]) -> tuple[float, ...]:
    """Return MATLAB's radial and tangential distortion in OpenCV's order; () without any."""
    try:
        radial = np.asarray(facts.get("radialdistortion", ()), np.float64).ravel().tolist()
        tangential = np.asarray(facts.get("tangentialdistortion", ()), np.float64).ravel().tolist()
    except (TypeError, ValueError):
        return ()
    if not any((*radial, *tangential)):
        return ()
    k1, k2, k3 = (*radial, 0.0, 0.0, 0.0)[:3]
    p1, p2 = (*tangential, 0.0, 0.0)[:2]
    return k1, k2, p1, p2, k3
