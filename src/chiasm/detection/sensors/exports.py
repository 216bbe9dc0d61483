"""What to save in a sensor's program in place of a file of a format that is not read."""

from __future__ import annotations

from pathlib import Path

_SURFACE = (
    "Save the height map in the microscope's or profiler's program as CSV, or as a TIFF of one "
    "channel, and give its unit and pitch (--unit, --pitch)."
)
_MESH = (
    "It is a mesh, which knows no pixels: save the sensor's organised cloud or depth map instead."
)
EXPORTS = {
    ".zdf": "Open it in Zivid Studio and save it as an ordered PLY or PCD, in millimetres.",
    ".praw": "Open it in PhoXi Control and save it as an organised PLY with texture.",
    ".bag": "Take its frames apart with RealSense's rs-convert (-p writes PNG, 16-bit depth).",
    **dict.fromkeys((".sur", ".x3p", ".al3d", ".plux", ".vk4", ".zag", ".opd"), _SURFACE),
    ".las": "Save the sensor's range image instead: a survey's cloud has no pixels.",
    ".e57": "Save the sensor's range image instead, or an organised PCD.",
    **dict.fromkeys((".stl", ".obj", ".off", ".glb", ".gltf"), _MESH),
}


def how_to_export(path: Path) -> str:
    """Return what to write instead of a file of a format that is not read, as a sentence."""
    return EXPORTS.get(
        path.suffix.lower(),
        "Save depth as a 16-bit PNG or float TIFF, points as a float32 TIFF or .npy file (height, "
        "width, 3), or as an organised PLY or PCD cloud.",
    )
