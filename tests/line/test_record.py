"""What other systems receive: the schema of the documentation is that of the code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import pytest

from chiasm.line.record import json_schema
from chiasm.samples import Region, Verdict
from line_records import record

PLACE = Region((1, 2, 3, 4), (2.5, 4.0), 9, 5.0, (1.0, 2.0, 500.0), 2.5, math.nan)
SCHEMA = Path(__file__).parents[2] / "docs" / "deployment" / "line" / "verdict.schema.json"


def test_the_documented_schema_is_current():
    assert json.loads(SCHEMA.read_text()) == json_schema()


@pytest.mark.parametrize(
    "sent",
    [
        record(1),
        record(2, "defective", alarm=True, threshold=0.5, regions=(PLACE,)),
        record(5, parts=(Verdict("a#1", 1.0, math.nan, None, regions=(PLACE,)),)),
        record(3, "error", score=math.nan, p_value=None, error="no file"),
        record(4, "corona", wing="classifier", probabilities={"corona": 0.75, "void": math.nan}),
    ],
)
def test_every_record_is_of_the_schema_and_plain_json(sent: dict):
    jsonschema.Draft202012Validator(json_schema()).validate(sent)
    assert json.loads(json.dumps(sent, allow_nan=False)) == sent
    assert sent["time"].endswith("Z")
