"""The suite of a benchmark of parts: methods, categories and printed values."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import chiasm.detection.models.named  # noqa: F401  (importing registers the models)
from chiasm.api import registered
from chiasm.benchmarks.trial import Trial
from chiasm.detection.config import DetectionConfig
from chiasm.detection.readers.opening import open_source
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.readers import find_reader
from chiasm.registry import RegisteredModel, models, searched_models

BOTH = ["rgb", "geometry"]
SENSORS = {"RGB": ["rgb"], "3D": ["geometry"], "RGB + 3D": BOTH}
# Baselines that compare the sensors and so refuse a single one.
BOTH_SENSORS = {"crossmodal_mapping"}
TRIVIAL = {"brightness": ["rgb"], "missing_points": ["geometry"], "area": BOTH}


def _methods() -> Iterator[tuple[str, dict[str, Any]]]:
    """List what can be trained: searched detectors, then published, other and trivial baselines."""
    yield "adnas_light", {"model": "adnas_light"}
    yield "adnas_light, concatenation", {"model": "adnas_light", "fusion": "concatenation"}
    for model in searched_models("detector"):
        preset = {"preset": "paper"} if model.size == "base" else {}
        yield model.name, {"model": model.name, **preset}
    baselines = [model for model in models("detector") if model.baseline]
    for model in sorted(baselines, key=lambda m: (m.name in TRIVIAL, not m.method, m.name)):
        sensors = {"modalities": TRIVIAL[model.name]} if model.name in TRIVIAL else {}
        yield model.name, {"model": model.name, **sensors}


# By the name on the command line, the settings of the run.
METHODS: dict[str, dict[str, Any]] = dict(_methods())


@dataclass(frozen=True, slots=True)
class Line:
    """What one or several rows of a table show.

    Attributes:
        label: names what was run, see ``run_label``, or the printed method.
        method: of ``METHODS``; "" for the paper's printed values.
        chosen: whether it is run.
    """

    label: str
    method: str = ""
    chosen: bool = True

    @property
    def printed(self) -> bool:
        """Whether the paper's values stand here."""
        return not self.method


@dataclass(frozen=True, slots=True)
class DetectionSuite:
    """The trials to run: methods on categories.

    Attributes:
        categories: name to folder.
        methods: names of ``METHODS`` or of published methods; None takes all small ones of a table.
        seeds: of trials; where few parts are drawn, a seed decides the draw.
        shots: numbers of parts in the tables of few parts.
        settings: of every trial. A ``model`` is that of the searched detectors alone.
        minutes: budget of each trial.
        bank_mb: megabytes of a memory bank, for methods that have one.
    """

    categories: Mapping[str, Path]
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    shots: tuple[int, ...] = (5, 10, 50)
    settings: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    bank_mb: float | None = None

    def selects(self, name: str) -> bool:
        """Return whether a method is run: a small one by default, and each that is named."""
        if self.methods is None:
            return not is_full_size(name)
        wanted = {_plain(method) for method in self.methods}
        if _plain(name) in wanted:
            return True
        return _plain(published_name(name)) in wanted and not is_full_size(name)

    def lines(self, published: str, *, printed: bool = False, **overrides: Any) -> list[Line]:
        """Return the lines of a published method: as printed, as run here, and full size.

        Of several models of a method the first one is run, unless they are named. Full size is
        always listed.

        Args:
            published: the paper's name of the method.
            printed: whether the table has printed values of it.
            overrides: further settings of the runs.
        """
        names = [name for name in METHODS if published_name(name) == published]
        small = [name for name in names if not is_full_size(name) and self.selects(name)]
        exact = {_plain(name) for name in self.methods or ()}
        small = [name for name in small if _plain(name) in exact] or small[:1]
        lines = [Line(f"{published} (printed)")] if printed else []
        return lines + self._run_here([*small, *filter(is_full_size, names)], **overrides)

    def all_lines(self, *, trivial: bool = True) -> list[Line]:
        """Return the lines of every selected method, and of every method in full size."""
        names = [name for name in METHODS if trivial or METHODS[name]["model"] not in TRIVIAL]
        return self._run_here([name for name in names if is_full_size(name) or self.selects(name)])

    def _run_here(self, names: list[str], **overrides: Any) -> list[Line]:
        lines: dict[str, Line] = {}
        for name in names:
            if self.selects(name):
                label = run_label(self.settings_of(name, **overrides))
                lines.setdefault(label, Line(label, name))
            if is_full_size(name):
                # What was run may be smaller than what was published: then both are listed.
                label = run_label(METHODS[name])
                lines.setdefault(label, Line(label, name, chosen=False))
        return list(lines.values())

    def folder(self, category: str) -> Path | None:
        """Return the folder of a category by the paper's name; None without such data."""
        return next((p for n, p in self.categories.items() if _plain(n) == _plain(category)), None)

    def settings_of(self, name: str, **overrides: Any) -> dict[str, Any]:
        """Return the settings of a method's trials, but for the seed.

        Raises:
            ConfigurationError: ``model`` names one that has no fusion to search.
        """
        given = dict(self.settings)
        model = given.pop("model", None)
        if model is not None and registered(model).pools is None:
            raise ConfigurationError(
                f"model={model} has no fusion to search, and model= chooses what is searched in "
                f"a table; baselines are chosen by --methods {model}."
            )
        # Data without several lamps have one, which is then all of them.
        settings = {"lamp": "all"} | METHODS[name] | given | overrides
        if model is not None and _is_searched(name):
            settings["model"] = model
        if self.minutes is not None:
            settings["minutes"] = self.minutes
        if self.bank_mb is not None and "bank_mb" in _options(settings["model"]):
            settings["options"] = {**settings.get("options", {}), "bank_mb": self.bank_mb}
        return settings

    def trials(self, line: Line, folder: Path, **overrides: Any) -> tuple[Trial, ...]:
        """Return one trial for each seed; none of what is printed or not run."""
        if line.printed or not line.chosen:
            return ()
        settings = self.settings_of(line.method, **overrides)
        return tuple(Trial("detector", folder, settings | {"seed": seed}) for seed in self.seeds)


def run_label(settings: Mapping[str, Any]) -> str:
    """Return what a run is, in words: model, size, fusion, features, pixels and passes.

    Raises:
        ConfigurationError: a setting is wrong.

    Example:
        >>> run_label({"model": "easynet_slim", "image_size": 128})
        'easynet_slim, width 16, 128 px, 180 epochs'
    """
    config = DetectionConfig.make(data=Path(), out=Path(), **settings)
    model = registered(config.model)
    parts = [model.name, model.scale]
    if model.pools is not None:
        fusion = Path(config.fusion).stem if config.fusion.endswith(".json") else config.fusion
        parts += [fusion] if fusion != "search" else []
        passes = str(config.train_epochs)
    else:
        options = {n: config.options.get(n, p.default) for n, p in _options(model.name).items()}
        parts += [str(options["backbone"])] if "backbone" in options else []
        # Several steps of training each have their own.
        passes = " + ".join(str(options[n]) for n in options if n.split("_")[-1] == "epochs")
    parts.append(f"{config.image_size} px")
    parts += [f"{passes} epochs"] if passes else []
    parts += [f"at most {config.minutes:g} minutes"] if config.minutes is not None else []
    return ", ".join(part for part in parts if part)


def published_name(name: str) -> str:
    """Return the published method that a name of ``METHODS`` stands for; "" for none."""
    return _model(name).method


def is_full_size(name: str) -> bool:
    """Return whether a method is as large as published, and so too slow for most machines."""
    return _model(name).size == "base"


def is_available(published: str) -> bool:
    """Return whether the library has a published method; the papers list others, too."""
    return any(published_name(name) == published for name in METHODS)


def _model(name: str) -> RegisteredModel:
    return registered(METHODS[name]["model"])


def _is_searched(name: str) -> bool:
    return _model(name).pools is not None and not is_full_size(name)


def _options(model: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(registered(model).builder).parameters


def lamps_in_words(suite: DetectionSuite) -> str:
    """Return under which lamps parts are tested; "" for data with one lamp."""
    lamp = suite.settings.get("lamp", "all")
    told = []
    for name, folder in suite.categories.items():
        layout = find_reader("detection", folder)
        if layout is None or "lamp" not in inspect.signature(layout).parameters:
            continue
        refs = [r for r in open_source(folder, lamp=lamp).refs if r.split in ("test", "")]
        lamps = {ref.lamp for ref in refs if ref.lamp is not None}
        if len(lamps) > 1:
            told.append(f"{name}: each test part under {len(lamps)} lamps, {len(refs)} images")
        elif lamps:
            told.append(f"{name}: {len(refs)} test images, all under lamp {min(lamps)}")
    return "; ".join(told)


def categories_under(root: Path, chosen: tuple[str, ...] = ()) -> dict[str, Path]:
    """Return the categories below a folder, or the folder itself if it is one.

    Args:
        root: folder or manifest.
        chosen: names of categories; none takes all.

    Raises:
        DataError: there is no category, or a chosen one does not exist.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist.")
    if _is_category(root) or root.is_file():
        categories = {root.name: root}
    else:
        categories = {p.name: p for p in sorted(root.iterdir()) if _is_category(p)}
    if not categories:
        raise DataError(
            f"{root} holds no category: data that 'chiasm data check' reads were expected, or "
            "folders of these."
        )
    for name in chosen:
        if not any(_plain(name) == _plain(category) for category in categories):
            raise DataError(
                f"There is no category {name!r} in {root}; there are: {', '.join(categories)}."
            )
    selected = [_plain(name) for name in chosen]
    return {n: path for n, path in categories.items() if not selected or _plain(n) in selected}


def check_methods(methods: tuple[str, ...] | None) -> None:
    """Raise ``ConfigurationError`` for an unknown method."""
    published = dict.fromkeys(filter(None, map(published_name, METHODS)))
    known = {_plain(name) for name in (*METHODS, *published)}
    for name in methods or ():
        if _plain(name) not in known:
            raise ConfigurationError(
                f"There is no method {name!r}; there are: {'; '.join([*METHODS, *published])}."
            )


@lru_cache(maxsize=1)
def printed() -> dict[str, dict[str, dict[str, float]]]:
    """Return the values printed in the paper: table to row to column to value, shares of 1."""
    text = resources.files("chiasm.benchmarks").joinpath("printed_3d_adnas.json").read_text()
    content: dict[str, dict[str, dict[str, float]]] = json.loads(text)["tables"]
    return content


def _is_category(folder: Path) -> bool:
    return folder.is_dir() and (
        (folder / "train").is_dir() or find_reader("detection", folder) is not None
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
