"""What does not fit is named by its field, with what would."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.wire.mismatch import invalid
from jobmgr.wire.requests import JobsQuery
from jobmgr.wire.submission import JobSubmission


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (
            JobsQuery,
            {"status": ["fialed"]},
            "status[0]: invalid enum value 'fialed'; known ones: pending, queued,",
        ),
        (
            JobSubmission,
            {"command": ["a"], "on_lost": "x"},
            "on_lost: invalid enum value 'x'; known ones: fail, retry",
        ),
        (
            JobSubmission,
            {"command": ["a"], "resources": {"cpu": 1}},
            "resources.cpu: is not a field; known ones: cpus,",
        ),
        (JobSubmission, {}, "command: is required"),
        (
            HFSSSimulationConfig,
            {"machine_nodes": [{"coers": 4}]},
            "machine_nodes[0].coers: is not a field; known ones: hostname,",
        ),
    ],
)
def test_error_names_the_field_and_what_would_fit(
    kind: type[msgspec.Struct], value: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, kind)

    assert str(invalid(caught.value, kind)).startswith(sentence)
