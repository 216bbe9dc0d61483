"""Outlets from YAML: the documented file is read, and every mistake gets a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chiasm.errors import ConfigurationError
from chiasm.line.configuration import read_outlets

EXAMPLE = Path(__file__).parents[2] / "docs" / "deployment" / "line" / "outlets.yaml"


def outlets(folder: Path, text: str):
    path = folder / "outlets.yaml"
    path.write_text(text)
    return read_outlets(path)


def one(folder: Path, options: str):
    return outlets(folder, f"outlets: [{{{options}}}]")


def test_the_documented_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    text = EXAMPLE.read_text()
    for variable in re.findall(r"_env: (\w+)", text):
        monkeypatch.setenv(variable, "secret")
    # Certificates of the plant are not here.
    text = re.sub(r"\n +(?:tls|security):(?:\n      .*)+", "", text)
    assert list(outlets(tmp_path, text)) == ["broker", "mes", "plc", "cell"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("type: telegraph", "there are modbus, mqtt, opcua, webhook"),
        ("type: mqtt", "host is missing"),
        ("type: mqtt, host: h, prt: 1883", "prt is no option here; known are .*port"),
        ("type: mqtt, host: h, port: 70000", "port is 70000; a number from 1 to 65535"),
        ("type: mqtt, host: h, qos: 0", "qos is 0"),
        ("type: mqtt, host: h, topic: 'a/#'", "without \\+ and #"),
        ("type: mqtt, host: h, topic: '{place}'", "{station}"),
        ("type: mqtt, host: h, password: p", "password must not stand in this file"),
        ("type: mqtt, host: h, password_env: CHIASM_NONE", "the environment does not have"),
        ("type: mqtt, host: h, tls: {ca: /none}", "which is no file"),
        ("type: webhook, url: 'ftp://x'", "http://"),
        ("type: webhook, url: 'http://x', headers: {authorization: t}", "authorization_env"),
        ("type: webhook, url: 'http://x', only: good", "a list of words"),
        ("type: modbus, host: h", "register is missing"),
        ("type: modbus, host: h, register: 1.5", "a whole number"),
        ("type: modbus, host: h, register: 1, codes: {corona: 2}", "from 5 to"),
        ("type: opcua, url: 'opc.tcp://h', nodes: {score: 'ns=2;s=S'}", "for the decision"),
        ("type: opcua, url: 'opc.tcp://h', nodes: {verdict: 'ns=2;s=S'}", "fields among"),
        ("type: mqtt, host: h, name: 'a/b'", "a name of letters"),
        ("type: mqtt, host: h, max_age_s: soon", "max_age_s is 'soon'"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, options: str, says: str):
    with pytest.raises(ConfigurationError, match=says):
        one(tmp_path, options)


@pytest.mark.parametrize("text", ["", "outlets: {}", "[1", "outlets: []\nmore: 1", "outlets: [1]"])
def test_other_files_are_refused(tmp_path: Path, text: str):
    with pytest.raises(ConfigurationError, match=r"outlets\.yaml"):
        outlets(tmp_path, text)


def test_two_of_one_name_are_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="two outlets are called mqtt"):
        outlets(tmp_path, "outlets: [{type: mqtt, host: a}, {type: mqtt, host: b}]")


def test_secrets_stay_out_of_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHIASM_SECRET", "hidden")
    (outlet,) = one(tmp_path, "type: webhook, url: 'http://127.0.0.1:1', secret_env: CHIASM_SECRET")
    assert outlet == "webhook"
    file = tmp_path / "key"
    file.write_text("from-a-file\n")
    assert one(tmp_path, f"type: mqtt, host: h, user: u, password_file: {file}")


def test_the_unit_and_the_guide_name_options_that_exist():
    from typer.main import get_command

    from chiasm.cli.main import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {name for parameter in commands["watch"].params for name in parameter.opts}
    unit = (EXAMPLE.parent / "chiasm-watch@.service").read_text()
    guide = (EXAMPLE.parents[1] / "line.md").read_text()
    watch = [line for line in guide.splitlines() if "chiasm watch" in line]
    for text in (unit, *watch):
        assert set(re.findall(r" (--[a-z-]+)", text)) <= known
    assert "--outlets" in {name for p in commands["serve"].params for name in p.opts}
    assert {"--then", "--settle", "--patience", "--every", "--once", "--heat-maps"} <= known
