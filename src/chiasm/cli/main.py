"""The command line. Each command parses its options, calls one function and prints."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from chiasm import __version__
from chiasm.cli import (
    bench,
    data,
    doctor,
    evaluate,
    explain,
    export,
    models,
    predict,
    recalibrate,
    search,
    serve,
    threshold,
    train,
    trend,
    watch,
)
from chiasm.cli import demo as demonstration
from chiasm.cli.options import RenamedOptions, reflowed, talks
from chiasm.errors import ChiasmError
from chiasm.runs.extras import missing_extra

EXIT_STATUSES = {
    0: "The command did what it says.",
    1: "data check --strict: files are damaged, or in two splits; doctor: a package does not load.",
    2: "A sentence on standard error says what is wrong and how to mend it; also a wrong option.",
    3: "predict, watch: some inputs could not be judged; their rows say why.",
    4: "trend: an asset alarms.",
    130: "Stopped by Ctrl-C; the same command goes on from there.",
}

app = typer.Typer(
    cls=RenamedOptions,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Detect faults from two kinds of sensor, and search how to fuse them.",
    epilog="Exit status: 0 done; 1 a check found faults; 2 an error, which a sentence explains; 3 "
    "some inputs were not judged; 4 an asset alarms; 130 stopped by Ctrl-C.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chiasm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.command("demo")(talks(demonstration.demo))
app.add_typer(data.app, name="data")
app.command("search")(talks(search.search))
app.command("train")(talks(train.train))
app.command("evaluate")(talks(evaluate.evaluate))
app.command("predict")(talks(predict.predict))
app.command("export")(talks(export.export))
app.command("serve")(reflowed(serve.serve))
app.command("trend")(talks(trend.trend))
app.command("watch")(reflowed(watch.watch))
app.command("recalibrate")(talks(recalibrate.recalibrate))
app.command("threshold")(talks(threshold.threshold))
app.command("bench")(talks(bench.bench))
app.command("models")(reflowed(models.models))
app.command("settings")(reflowed(models.settings))
app.command("doctor")(reflowed(doctor.doctor))
app.command("explain")(reflowed(explain.explain))


def main() -> None:
    """Run the command line. A user's error exits with a sentence and status 2, Ctrl-C with 130."""
    try:
        app()
    except ModuleNotFoundError as error:
        # A station has no PyTorch, and a training machine no web server.
        sentence = missing_extra(error, *sys.argv[1:2])
        if sentence is None:
            raise
        typer.echo(f"chiasm: {sentence}", err=True)
        sys.exit(2)
    except ChiasmError as error:
        typer.echo(f"chiasm: {error}", err=True)
        for note in getattr(error, "__notes__", ()):
            typer.echo(note, err=True)
        sys.exit(2)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            advice = "A folder was expected, but a file has this name; choose another path."
        elif isinstance(error, (IsADirectoryError, FileNotFoundError)):
            advice = "Check the path."
        else:
            advice = (
                "Finished work is kept. Free some space or choose a folder that you may write to, "
                "and run the same command again."
            )
        typer.echo(f"chiasm: {error.strerror or error}{place}. {advice}", err=True)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code != 130:  # typer's exit code for Ctrl-C
            raise
        typer.echo(
            "chiasm: stopped. Finished work is kept; the same command resumes from there.", err=True
        )
        # Lightning's threads would delay the exit.
        os._exit(130)
