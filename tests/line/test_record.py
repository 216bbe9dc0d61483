"""What other systems receive: the schema of the documentation is that of the code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import pytest

from chiasm.discharge import Quantities, Severity
from chiasm.line.record import as_version, diagnosed, json_schema
from chiasm.samples import Diagnosis, Region, Verdict
from line_records import record

PLACE = Region((1, 2, 3, 4), (2.5, 4.0), 9, 5.0, (1.0, 2.0, 500.0), 2.5, math.nan)
SCHEMAS = Path(__file__).parents[2] / "docs" / "deployment" / "line"
DIAGNOSIS = Diagnosis(
    "a",
    "unknown",
    {"corona": 0.75, "void": 0.25},
    quantities=Quantities("pC", 12, 2.0, charge_repeated=230.5, rate_per_s=6.0),
    severity=Severity("high", ("the charge is large",)),
)


def test_the_documented_schemas_are_those_of_the_code():
    assert json.loads((SCHEMAS / "verdict.schema.json").read_text()) == json_schema()
    assert json.loads((SCHEMAS / "verdict.v1.schema.json").read_text()) == json_schema(1)


def test_a_receiver_may_keep_the_first_version_of_the_record():
    sent = record(4, "unknown", wing="classifier", **diagnosed(DIAGNOSIS))
    assert (sent["severity"], sent["unknown"], sent["confidence"]) == ("high", True, 0.75)
    assert (sent["charge"], sent["charge_unit"], sent["pulse_rate"]) == (230.5, "pC", 6.0)
    first = as_version(sent, 1)
    jsonschema.Draft202012Validator(json_schema(1)).validate(first)
    # One that waited on the disk over an update is of the present version, and says no more.
    again = as_version(first, 2)
    jsonschema.Draft202012Validator(json_schema()).validate(again)
    assert again["severity"] is None and as_version(sent, 2) == sent


@pytest.mark.parametrize(
    "sent",
    [
        record(1),
        record(2, "defective", alarm=True, threshold=0.5, regions=(PLACE,)),
        record(5, parts=(Verdict("a#1", 1.0, math.nan, None, regions=(PLACE,)),)),
        record(3, "error", score=math.nan, p_value=None, error="no file"),
        record(4, "corona", wing="classifier", probabilities={"corona": 0.75, "void": math.nan}),
        record(6, "unknown", wing="classifier", **diagnosed(DIAGNOSIS)),
    ],
)
def test_every_record_is_of_the_schema_and_plain_json(sent: dict):
    jsonschema.Draft202012Validator(json_schema()).validate(sent)
    assert json.loads(json.dumps(sent, allow_nan=False)) == sent
    assert sent["time"].endswith("Z")
