"""Pages and schemas of the reference, made from the code that they describe.

``python tools/reference.py`` writes the JSON Schemas to ``docs/reference/schemas``; a test and the
build of the site refuse schemas that differ from the code. The pages are made at the build.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "docs/reference/schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS = ("adnas_light", "mad_small")  # one a wing: the settings belong to the wing


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas of the files that a run writes, by file name."""
    from chiasm.detection.contract import DetectionContract
    from chiasm.diagnosis.contract import DiagnosisContract

    records = {
        "contract-detection": ("Contract of a trained detector", DetectionContract),
        "contract-diagnosis": ("Contract of a trained classifier", DiagnosisContract),
    }
    made = {
        f"{name}.schema.json": {
            "$schema": DIALECT,
            **_without_code(record.model_json_schema(by_alias=True)),
            "title": title,
        }
        for name, (title, record) in records.items()
    }
    return made | {"genotype.schema.json": genotype_schema()}


def genotype_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``genotype.json``: form and names, not what a pool holds."""
    from chiasm.fusion.genotype import SCHEMA, VERSIONS
    from chiasm.fusion.operations import OPERATIONS
    from chiasm.fusion.pools import CELLS

    text = {"type": "string", "minLength": 1}
    node = {
        "type": "object",
        "description": "Two inputs and what is done with them.",
        "required": ["inputs", "operation"],
        "additionalProperties": False,
        "properties": {
            "inputs": {
                "type": "array",
                "description": "x and y are the cell's inputs, node:0 is its first node.",
                "items": {"type": "string", "pattern": r"^(x|y|node:\d+)$"},
                "minItems": 2,
                "maxItems": 2,
            },
            "operation": {"enum": list(OPERATIONS)},
        },
    }
    cell = {
        "type": "object",
        "description": "Without nodes it joins any number of features (version 2).",
        "required": ["inputs", "nodes"],
        "additionalProperties": False,
        "properties": {
            "inputs": {"type": "array", "items": text, "minItems": 1},
            "nodes": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        },
        "if": {"properties": {"nodes": {"minItems": 1}}},
        "then": {"properties": {"inputs": {"minItems": 2, "maxItems": 2}}},
        "else": {"properties": {"inputs": {"uniqueItems": True}}},
    }
    named = {"propertyNames": {"enum": list(CELLS)}}
    return {
        "$schema": DIALECT,
        "title": "A searched fusion of chiasm",
        "type": "object",
        "required": ["schema", "version", "output", "cells"],
        "properties": {
            "schema": {"const": SCHEMA},
            "version": {"enum": list(VERSIONS)},
            "output": {"enum": list(CELLS), "description": "The cell that feeds the head."},
            "cells": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"$ref": "#/$defs/cell"},
                **named,
            },
            "pools": {
                "type": "object",
                "description": "Names of the features that each cell could choose from.",
                "additionalProperties": {"type": "array", "items": text},
                **named,
            },
            "provenance": {"type": "object", "description": "For people: seed, data, score."},
        },
        "$defs": {"cell": cell, "node": node},
    }


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _without_code(value: Any) -> Any:
    """Return a schema whose descriptions are plain text, on one line each."""
    if isinstance(value, dict):
        return {
            key: " ".join(content.replace("``", "").split())
            if key == "description" and isinstance(content, str)
            else _without_code(content)
            for key, content in value.items()
        }
    return [_without_code(item) for item in value] if isinstance(value, list) else value


def command_page() -> str:
    """Return the page of all commands with their arguments and options."""
    lines = [
        "# Commands",
        "",
        "`chiasm COMMAND --help` shows the same at a terminal. Exit statuses are listed "
        "[at the end](#exit-statuses).",
        "",
    ]
    for name, function in commands():
        arguments, options = parameters(function)
        usage = [argument.usage for argument in arguments]
        lines += [f"## {name}", "", *_paragraphs(inspect.getdoc(function) or "")]
        lines += ["```", " ".join([name, "[OPTIONS]", *usage]), "```", ""]
        if arguments:
            lines += ["| argument | meaning |", "| --- | --- |"]
            lines += [f"| `{one.name}` | {_cell(one.meaning)} |" for one in arguments]
            lines.append("")
        if options:
            lines += ["| option | values | default | meaning |", "| --- | --- | --- | --- |"]
            lines += [
                f"| {one.name} | {one.values} | {one.default} | {_cell(one.meaning)} |"
                for one in options
            ]
            lines.append("")
    return "\n".join([*lines, *_exit_statuses(), ""])


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield full name and function of each command."""
    from chiasm.cli.main import app

    def leaves(inner: Any, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        for command in inner.registered_commands:
            yield f"{name} {command.name or command.callback.__name__}", command.callback
        for group in inner.registered_groups:
            yield from leaves(group.typer_instance, f"{name} {group.name}")

    yield from leaves(app, "chiasm")


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument or option of a command, in words.

    Attributes:
        name: of an option as Markdown, with its other forms.
        usage: of an argument in the line of usage.
        values: that an option takes; "" of a flag.
        default: "" where nothing is taken unless given.
        meaning: the help.
    """

    name: str
    usage: str
    values: str
    default: str
    meaning: str


def parameters(function: Callable[..., Any]) -> tuple[list[Parameter], list[Parameter]]:
    """Return the arguments and the options of a command that its help shows, from its signature."""
    hints = get_type_hints(function, include_extras=True)
    arguments, options = [], []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info, *_ = (*get_args(hints[name]), None, None)
        if getattr(info, "hidden", False):
            continue  # an earlier name, which is still read
        required = parameter.default is inspect.Parameter.empty
        meaning = getattr(info, "help", None) or ""
        if type(info).__name__ == "ArgumentInfo":
            several = "..." if "list" in str(kind) else ""
            word = f"{name.upper()}{several}"
            usage = word if required else f"[{word}]"
            arguments.append(Parameter(name.upper(), usage, "", "", meaning))
            continue
        given = tuple(_declared(info))
        if environment := getattr(info, "envvar", None):
            meaning += f" Environment: {environment}."
        forms = given or _forms(name, kind)
        values = "" if _is_flag(kind) else f"`{_values(kind, info)}`"
        default = parameter.default
        absent = default is None or default == "" or default is False or required
        shown = ("required" if required else "") if absent else f"`{default}`"
        names = ", ".join(f"`{form}`" for form in forms)
        options.append(Parameter(names, "", values, shown, meaning))
    return arguments, options


def _declared(info: Any) -> Iterator[str]:
    """Yield the forms that are written out; in an annotation typer keeps the first as default."""
    for text in (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ())):
        if isinstance(text, str) and text.startswith("-"):
            yield from text.split("/")


def _is_flag(kind: Any) -> bool:
    return kind is bool or (bool in get_args(kind) and len(get_args(kind)) <= 2)


def _forms(name: str, kind: Any) -> tuple[str, ...]:
    word = name.replace("_", "-")
    return (f"--{word}", f"--no-{word}") if _is_flag(kind) else (f"--{word}",)


def _values(kind: Any, info: Any) -> str:
    if metavar := getattr(info, "metavar", None):
        return _cell(metavar)
    inside = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is Literal:
        return _cell(" | ".join(map(str, inside)))
    if inside:
        return _values(inside[0], info)
    return {Path: "PATH", int: "INTEGER", float: "NUMBER", str: "TEXT"}.get(kind, "TEXT")


def _exit_statuses() -> list[str]:
    from chiasm.cli.main import EXIT_STATUSES

    rows = [f"| {status} | {meaning} |" for status, meaning in EXIT_STATUSES.items()]
    return ["## Exit statuses", "", "| status | meaning |", "| --- | --- |", *rows]


def settings_page() -> str:
    """Return the page of the settings of both wings, with their presets."""
    from chiasm.api.configuration import facts_of, presets_of

    titles = {"adnas_light": "Parts", "mad_small": "Recordings"}
    lines = [
        "# Settings",
        "",
        "Settings are given as `key=value` to `chiasm train` and `chiasm search`, in a YAML file "
        "(`--config`), or by name in Python. `chiasm settings MODEL` lists them at a terminal.",
        "",
    ]
    for model in MODELS:
        facts, _ = facts_of(model)
        lines += [f"## {titles[model]}", "", f"Every model of the wing has them; shown: `{model}`."]
        lines += ["", "| setting | values | default | meaning |", "| --- | --- | --- | --- |"]
        for fact in facts:
            default = fact.default.removesuffix(" unless given")
            row = (f"`{fact.name}`", _cell(fact.kind), _cell(default), _cell(fact.meaning))
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
        for name, content in presets_of(model).items():
            lines += [f"### {titles[model]}: preset={name}", "", "```yaml", content.rstrip()]
            lines += ["```", ""]
    return "\n".join(lines)


def http_page(document: Mapping[str, Any]) -> str:
    """Return the page of the service's HTTP interface.

    Args:
        document: OpenAPI document of the service.
    """
    lines = [
        "# HTTP interface",
        "",
        "`chiasm serve` answers these requests. The service serves the whole description, with "
        "examples, at `/openapi.json`; [the same file](openapi.json) belongs to this page.",
        "",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += [f"## {method.upper()} {path}", ""]
            words = [operation.get("summary", ""), operation.get("description", "")]
            lines += [text for word in words if word for text in (word.strip(), "")]
            lines += _parameters(operation)
            lines += _body(operation, document)
            lines += ["| status | answer |", "| --- | --- |"]
            lines += [
                f"| {status} | {_cell(answer['description'])}{_answer_kind(answer)} |"
                for status, answer in sorted(operation["responses"].items())
            ]
            lines.append("")
    lines += ["## Records", ""]
    for name, record in sorted(document["components"]["schemas"].items()):
        if not record.get("properties") or name.startswith("Body_"):
            continue
        lines += [f"### {name}", "", " ".join(record.get("description", "").split()), ""]
        lines += ["| field | type | meaning |", "| --- | --- | --- |"]
        for field, content in record["properties"].items():
            meaning = _cell(content.get("description", ""))
            lines.append(f"| `{field}` | {_type_words(content)} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _parameters(operation: Mapping[str, Any]) -> list[str]:
    rows = operation.get("parameters", [])
    if not rows:
        return []
    lines = ["| parameter | in | type | meaning |", "| --- | --- | --- | --- |"]
    for row in rows:
        star = " (required)" if row.get("required") and row["in"] != "path" else ""
        meaning = _cell(row.get("description", ""))
        kind = _type_words(row.get("schema", {}))
        lines.append(f"| `{row['name']}` | {row['in']}{star} | {kind} | {meaning} |")
    return [*lines, ""]


def _body(operation: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    contents = operation.get("requestBody", {}).get("content", {})
    lines: list[str] = []
    for media, content in contents.items():
        schema = content.get("schema", {})
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = document["components"]["schemas"][name]
            if not name.startswith("Body_"):
                lines += [f"Body, `{media}`: [{name}](#{name.lower()}).", ""]
                continue
        if not schema.get("properties"):
            continue
        lines += [f"Body, `{media}`:", "", "| field | type | meaning |", "| --- | --- | --- |"]
        for field, one in schema["properties"].items():
            meaning = _cell(one.get("description", ""))
            lines.append(f"| `{field}` | {_type_words(one)} | {meaning} |")
        lines.append("")
    return lines


def _answer_kind(answer: Mapping[str, Any]) -> str:
    for media, content in answer.get("content", {}).items():
        words = _type_words(content.get("schema", {}))
        return f": {words}" if words != "any" else f": `{media}`"
    return ""


def _type_words(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type_words(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type_words(schema.get('items', {}))}"
    if schema.get("format") == "binary" or "contentMediaType" in schema:
        return "file"
    return str(schema.get("type", "any"))


def service_document() -> dict[str, Any]:
    """Return the OpenAPI document of the service, made without a model."""
    import tempfile

    from chiasm.service.app import build
    from chiasm.service.settings import ServiceSettings

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = ServiceSettings(log=str(place / "log.sqlite"), spool=place / "spool", watch=0)
        app = build({}, settings, _no_model)
        document = app.openapi()
        _close(app)
    return document


def _no_model(folder: Path) -> Any:
    raise AssertionError(f"no model is loaded for a description: {folder}")


def _close(app: Any) -> None:
    """Start and end the application, which closes its log."""
    import asyncio

    async def run() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(run())


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) + "\n" for part in text.replace("\b", "").split("\n\n")]


def _cell(text: str) -> str:
    """Return a text for a cell of a table: one line, with nothing that Markdown reads."""
    flat = " ".join(str(text).split())
    for mark in ("|", "<", "*", "_"):
        flat = flat.replace(mark, f"\\{mark}") if mark != "<" else flat.replace(mark, "&lt;")
    return flat


def main() -> None:
    """Write the schemas."""
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (SCHEMAS / name).write_text(schema_text(schema))
        sys.stdout.write(f"{SCHEMAS / name}\n")


if __name__ == "__main__":
    main()
