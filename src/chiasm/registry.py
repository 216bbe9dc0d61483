"""Named models by function name: a builder registers itself, and is found by its name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chiasm.errors import ConfigurationError

Builder = Callable[..., Any]
Pools = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A named model.

    Attributes:
        name: the builder's function name.
        wing: ``"detector"`` or ``"classifier"``.
        builder: makes the model from literals.
        summary: first line of the builder's docstring.
        baseline: whether it stands here for comparison alone.
        fitted: whether it is fitted in one call, without gradient steps.
        size: ``"base"`` or ``"small"``: presets choose learning rate and batch by it, and tables
            of benchmarks train the small ones unless a base one is chosen.
        method: the published method that it stands for, as its paper names it; "" for none.
        scale: its size in words, e.g. "width 16", where other models of the method have another.
        preset: that it has where none is named; "" is that of its kind.
        among: models of which validation data choose one where this name is given, from the
            cheapest to the dearest; such a name is no model of its own, and ``models`` leaves it
            out.
        pools: of a detector whose fusion is searched: modalities to the candidate features
            (``chiasm.fusion.pools.Pools``); None where nothing is searched.
        fuses: of a searched model, the name of the model whose features it fuses.
        takes: modalities of which the model looks at one; () are those that the builder has by
            default, all of them together.
    """

    name: str
    wing: str
    builder: Builder
    summary: str
    baseline: bool = False
    fitted: bool = False
    size: str = "small"
    pools: Pools | None = None
    fuses: str | None = None
    method: str = ""
    scale: str = ""
    preset: str = ""
    among: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    def modalities_of(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Return those of some modalities that the model looks at; () where it takes none."""
        wanted = tuple(wanted)
        default = inspect.signature(self.builder).parameters["modalities"].default
        usual = tuple(name for name in wanted if name in default)
        return usual or tuple(name for name in wanted if name in self.takes)[:1]


_MODELS: dict[str, RegisteredModel] = {}


def register(
    wing: str,
    *,
    baseline: bool = False,
    fitted: bool = False,
    size: str = "small",
    pools: Pools | None = None,
    fuses: str | None = None,
    method: str = "",
    scale: str = "",
    preset: str = "",
    among: tuple[str, ...] = (),
    takes: tuple[str, ...] = (),
) -> Callable[[Builder], Builder]:
    """Register the decorated builder under its own name."""

    def remember(builder: Builder) -> Builder:
        name = builder.__name__
        summary = (builder.__doc__ or "").strip().split("\n")[0]
        _MODELS[name] = RegisteredModel(
            *(name, wing, builder, summary, baseline, fitted),
            *(size, pools, fuses, method, scale, preset),
            among=among,
            takes=takes,
        )
        return builder

    return remember


def models(wing: str | None = None) -> tuple[RegisteredModel, ...]:
    """All registered models in the order of their names, without names that stand for several."""
    found = [m for m in _MODELS.values() if not m.among and wing in (None, m.wing)]
    return tuple(sorted(found, key=lambda m: m.name))


def choices(wing: str) -> tuple[RegisteredModel, ...]:
    """Return the names of which each stands for several models, one of which is chosen."""
    return tuple(m for m in _MODELS.values() if m.among and m.wing == wing)


def searched_models(wing: str | None = None) -> tuple[RegisteredModel, ...]:
    """Return the models whose fusion is searched."""
    return tuple(m for m in models(wing) if m.pools is not None or m.fuses is not None)


def find_model(name: str) -> RegisteredModel:
    """The model of that name; ``ConfigurationError`` lists the names that exist."""
    try:
        return _MODELS[name]
    except KeyError:
        known = ", ".join(sorted(_MODELS))
        raise ConfigurationError(
            f"There is no model named {name!r}; there are: {known}.", see="model-name"
        ) from None


def module_names(package: str) -> tuple[str, ...]:
    """Return the full names of the modules of a package, in alphabetical order."""
    path = importlib.import_module(package).__path__
    return tuple(f"{package}.{module.name}" for module in pkgutil.iter_modules(path))


def import_modules(package: str) -> None:
    """Import all modules of a package, so that what they register is registered."""
    for name in module_names(package):
        importlib.import_module(name)
