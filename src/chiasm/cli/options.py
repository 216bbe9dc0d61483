"""Options that several commands share."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from chiasm.errors import ConfigurationError, renamed
from chiasm.training.progress import at_volume, volume

RENAMED = {"--light": "--lamp"}
_REGISTERS = ("register(", "token_baseline(")  # decorators of builders


def complete_model(incomplete: str) -> list[str]:
    """Return the names of models that begin so, without an import: a shell waits for them."""
    return sorted(name for name in _model_names() if name.startswith(incomplete))


def _model_names() -> Iterator[str]:
    """Yield the names of functions that are decorated as registered models."""
    for path in (Path(__file__).parents[1]).glob("*/models/*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                decorators = (ast.unparse(decorator) for decorator in node.decorator_list)
                if any(text.startswith(_REGISTERS) for text in decorators):
                    yield node.name


Data = Annotated[
    Path,
    typer.Option(
        "--data", help="Folder or table of parts or recordings; 'chiasm data check' tests it."
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the run.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings; see 'chiasm settings'.")
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="Time budget of search and training together.")
]
BudgetMs = Annotated[
    float | None,
    typer.Option(
        "--budget-ms",
        min=0,
        help="Milliseconds a part that a searched model may take on this machine, exported.",
    ),
]
BudgetMb = Annotated[
    float | None,
    typer.Option(
        "--budget-mb",
        min=0,
        help="Megabytes that weights and memories of a searched model may take.",
    ),
]


def budgets(ms: float | None, mb: float | None) -> list[str]:
    """Return the settings that budgets of a search stand for."""
    given = {"search.budget_ms": ms, "search.budget_mb": mb}
    return [f"{name}={value}" for name, value in given.items() if value is not None]


Seed = Annotated[int | None, typer.Option("--seed", help="Random seed of the run.")]


def _lamp(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor 'all'.") from None


Recorder = Annotated[
    list[str] | None,
    typer.Option(
        "--recorder",
        metavar="NAME=VALUE",
        help="What a recorder's files do not say, e.g. frequency=50, sample_rate=1e6, "
        "columns=time,phase,amplitude; may be repeated, or stand in recorder.yaml beside them.",
    ),
]
Lamp = Annotated[
    Any,  # a number or "all"; typer takes no union
    typer.Option(
        "--lamp",
        parser=_lamp,
        metavar="NUMBER|all",
        help="Number of the lamp, for data with several, or 'all'. A trained model's own by "
        "default.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="auto (the first CUDA GPU, or the processor), cpu, cuda, cuda:N or mps.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Search and train in this number of processes (default: 1)."
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Search and train on a Ray cluster: HOST:PORT, ray://HOST:PORT, 'auto', or 'local' "
        "for one on this machine.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings as key=value, e.g. image_size=384 search.finalists=4; see 'chiasm "
        "settings MODEL'."
    ),
]

Strict = Annotated[
    bool | None,
    typer.Option(
        "--strict",
        help="Stop where files are damaged, and list them, instead of leaving out a few.",
        show_default=False,
    ),
]

FalseAlarmRate = Annotated[
    float | None, typer.Option(help="False-alarm rate to promise (default: that of the model).")
]

Confidence = Annotated[
    float | None,
    typer.Option(
        help="Confidence with which the rate holds for this calibration, e.g. 0.9 (default: that "
        "of the model)."
    ),
]


Defects = Annotated[
    Path | None,
    typer.Option(
        help="Folder or table of labelled defective parts, none of the test, that choose the "
        "threshold; 'validation' takes those of the data's own validation split at a training."
    ),
]
MissRate = Annotated[
    float | None,
    typer.Option(help="Share of such defects that may be missed (default: the best F1 is taken)."),
]

Mlflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="EXPERIMENT",
        help="Log settings, figures by epoch, report and contract to this experiment of MLflow, at "
        "MLFLOW_TRACKING_URI, when the command has done its work.",
    ),
]

OneProduct = Annotated[
    str | None,
    typer.Option(
        "--product",
        metavar="NAME",
        help="Of a model of several products: the one that is meant. By default each part says it "
        "(its folder, a column product, or its looks where they are clear).",
    ),
]


Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print no progress and no remarks: results and errors."),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Print the time with every line, and of an error where it arose."
    ),
]


def talks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``--quiet`` and ``--verbose``, which hold while it runs."""

    @functools.wraps(command)
    def run(*args: Any, quiet: bool = False, verbose: bool = False, **options: Any) -> Any:
        if quiet and verbose:
            raise ConfigurationError("--quiet and --verbose exclude each other; give one of them.")
        with at_volume("quiet" if quiet else "verbose" if verbose else "normal"):
            if at_terminal() and volume() != "quiet":
                typer.echo("Loading ...", err=True)  # PyTorch alone takes seconds
            try:
                return command(*args, **options)
            except Exception as error:
                if verbose and not isinstance(error, typer.Exit):
                    typer.echo("".join(traceback.format_exception(error)), err=True)
                raise

    added = {"quiet": Quiet, "verbose": Verbose}
    signature = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(n, keyword, default=False, annotation=a) for n, a in added.items()]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # typer reads it
        parameters=[*signature.parameters.values(), *more]
    )
    run.__annotations__ = {**inspect.get_annotations(command, eval_str=True), **added}
    return reflowed(run)


def at_terminal() -> bool:
    """Return whether somebody reads what this process says while it runs."""
    return sys.stderr.isatty()


def reflowed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Join the lines of each paragraph of a command's help; a terminal breaks them by its width."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    command.__doc__ = "\n\n".join(" ".join(part.split()) for part in paragraphs)
    return command


class RenamedOptions(TyperGroup):
    """The commands, which take options by their earlier names too, with a remark on stderr."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace earlier names of options before any command reads them."""
        return super().parse_args(ctx, [_present_name(word) for word in args])


def _present_name(word: str) -> str:
    name, equals, value = word.partition("=")
    if name not in RENAMED:
        return word
    typer.echo(f"chiasm: {renamed('option', name, RENAMED[name])}", err=True)
    return f"{RENAMED[name]}{equals}{value}"
