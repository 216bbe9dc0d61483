"""``chiasm doctor``: what is installed, what computes, and which commands work here."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import chiasm
from chiasm.cli.tables import Json, output_console, print_json, print_table

# Extra to what it is for, and the commands and options that need it.
PURPOSES = {
    "train": ("train, search and evaluate with PyTorch", "train, search, evaluate, predict RUN"),
    "runtime": ("run exported models with OpenVINO", "predict, evaluate and serve an export"),
    "runtime-onnx": ("run exported models with ONNX Runtime", "predict EXPORT of --to onnx"),
    "serve": ("serve exported models over HTTP", "serve"),
    "serve-postgresql": ("share the log of several services", "serve --log postgresql://..."),
    "line": ("send verdicts to a plant's systems", "watch --outlets, serve --outlets"),
    "export": ("export trained models", "export, --budget-ms"),
    "formats": ("read rare files of images", "OpenEXR, and TIFF with rare codecs"),
    "rivals": ("train baselines that need faiss or LightGBM", "bench rivals, bench classifiers"),
    "quality": ("baselines on DINOv2", "train ... backbone=dinov2_vits14"),
    "mlflow": ("list runs beside other models of a team", "train --mlflow, evaluate --mlflow"),
    "cluster": ("several machines, and Parquet", "predict --workers, --ray"),
    "all": ("everything above", "every command"),
}
_LOADED = ("cv2", "torch", "openvino", "onnxruntime", "fastapi", "faiss")  # what can be broken
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?\s*\(?([^;)]*)\)?\s*(?:;\s*(.*))?$")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def doctor(json: Json = False) -> None:
    """Show versions, device, extras and cache, and which commands work here.

    Exit status: 0; 1 if a package that is installed cannot be loaded.
    """
    report = examine()
    if json:
        print_json(report)
    else:
        _print(report)
    if report["broken"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Return what ``chiasm doctor`` tells, as JSON can hold it."""
    broken = dict(_broken())
    extras = _extras()
    return {
        "chiasm": chiasm.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "folder": str(Path(chiasm.__file__).parent),
        "processors": _processors(),
        "memory_gb": _memory_gb(),
        "device": _device(broken),
        "page": (Path(chiasm.__file__).parent / "service/page/index.html").is_file(),
        "cache": _cache(),
        "extras": extras,
        "broken": broken,
    }


def missing_packages(extra: str) -> list[str]:
    """Return what an extra needs and is not installed, or older than it needs."""
    return [
        name if installed is None else f"{name} ({installed} is installed, {wanted} is needed)"
        for name, wanted in _required(extra).items()
        if (installed := _version(name)) is None or not _satisfies(installed, wanted)
    ]


def _extras() -> dict[str, dict[str, Any]]:
    found = {}
    for extra, (purpose, commands) in PURPOSES.items():
        missing = missing_packages(extra)
        found[extra] = {
            "complete": not missing,
            "for": purpose,
            "commands": commands,
            "missing": missing,
            "install": None if not missing else f"pip install 'chiasm[{extra}]'",
        }
    return found


def _required(extra: str, seen: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the packages of an extra and the versions that it takes, those of others included."""
    needed: dict[str, str] = {}
    for line in importlib.metadata.requires("chiasm") or []:
        match = _REQUIREMENT.match(line)
        if match is None or extra not in _EXTRA.findall(match[4] or ""):
            continue
        if match[1] == "chiasm":
            inner = [name.strip() for name in (match[2] or "").split(",")]
            for name in inner:
                if name not in (*seen, extra):
                    needed |= _required(name, (*seen, extra))
        else:
            needed[match[1]] = match[3].strip()
    return needed


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _satisfies(installed: str, wanted: str) -> bool:
    """Return whether a version is one of ``>=1.2`` or ``==1.2``; other marks are not judged."""
    numbers = _numbers(installed)
    for condition in filter(None, wanted.split(",")):
        mark, least = condition.strip()[:2], _numbers(condition.strip()[2:])
        if mark == ">=" and numbers < least:
            return False
        if mark == "==" and numbers[: len(least)] != least:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0]))


def _broken() -> Iterator[tuple[str, str]]:
    """Yield the packages that are installed and do not load, with what they say."""
    for module in _LOADED:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:  # a part of it is missing
                yield module, str(error)
        except Exception as error:
            yield module, f"{type(error).__name__}: {error}"


def _device(broken: dict[str, str]) -> dict[str, Any]:
    """Return what ``device=auto`` computes on, and what else there is."""
    if "torch" in broken or _version("torch") is None:
        return {"auto": None, "cuda": [], "mps": False}
    import torch

    from chiasm.training.device import device_count, find_device

    names = [torch.cuda.get_device_name(n) for n in range(device_count("cuda"))]
    return {"auto": str(find_device("auto")), "cuda": names, "mps": bool(device_count("mps"))}


def _cache() -> dict[str, Any]:
    """Return where the cache lies, its size, and the room that is left."""
    from chiasm.files.content_hash import default_cache_folder

    folder = default_cache_folder()
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {
        "folder": str(folder),
        "files": len(files),
        "gb": round(sum(path.stat().st_size for path in files) / 1e9, 2),
        "free_gb": round(shutil.disk_usage(place).free / 1e9, 1),
        "writable": os.access(place, os.W_OK),
    }


def _processors() -> int:
    from chiasm.runtime.engine import processor_threads

    return processor_threads()


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _print(report: dict[str, Any]) -> None:
    device, cache = report["device"], report["cache"]
    computes = f"{device['auto']} (device=auto)" if device["auto"] else "no PyTorch is installed"
    computes += "".join(f"; cuda:{n} is {name}" for n, name in enumerate(device["cuda"]))
    memory = "" if report["memory_gb"] is None else f", {report['memory_gb']:g} GB of memory"
    page = "is there" if report["page"] else "is not built: 'make page' of a source checkout does"
    room = f"{cache['gb']:g} GB in {cache['files']} files, {cache['free_gb']:g} GB of disk free"
    room += "" if cache["writable"] else "; it CANNOT BE WRITTEN: set CHIASM_CACHE to a folder"
    print_table(
        ("chiasm", report["chiasm"]),
        [
            ("Python", f"{report['python']}, {report['platform']}"),
            ("folder", report["folder"]),
            ("processors", f"{report['processors']}{memory}"),
            ("device", computes),
            ("cache", f"{cache['folder']}: {room}"),
            ("operators' page", page),
        ],
    )
    typer.echo()
    print_table(
        ("extra", "here", "needed for"),
        [
            (name, "yes" if extra["complete"] else "no", _sentence(extra))
            for name, extra in report["extras"].items()
        ],
    )
    for module, error in report["broken"].items():
        typer.echo(f"\n{module} is installed but does not load: {error}", err=True)
    if output_console().is_terminal and not report["broken"]:
        typer.echo("\n'chiasm demo' tries the whole way on built-in data.")


def _sentence(extra: dict[str, Any]) -> str:
    words = f"{extra['for']} ({extra['commands']})"
    if extra["complete"]:
        return words
    few = ", ".join(extra["missing"][:3]) + (" ..." if len(extra["missing"]) > 3 else "")
    return f"{words}; {extra['install']} (missing: {few})"
