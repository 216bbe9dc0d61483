"""Random requests from the OpenAPI description: every answer conforms to it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from stub_service import Start

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies
    schemathesis = pytest.importorskip("schemathesis")
    checks = schemathesis.checks

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def api(start: Start) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", start().client.app)


def test_described_and_random_requests_get_described_answers(api: Any):
    operations = [operation.ok() for operation in api.get_all_operations()]
    assert len(operations) >= 14
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            try:
                _fuzz(operation.as_strategy(generation_mode=mode))
            except Unsatisfiable:
                # A route without parameters, or with any name, has no invalid request.
                assert mode is schemathesis.GenerationMode.NEGATIVE
                assert "{verdict}" not in operation.path


def _fuzz(strategy: st.SearchStrategy[Any]) -> None:
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case: Any) -> None:
        answer = case.call()
        case.validate_response(
            answer,
            checks=[
                checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )

    send()
