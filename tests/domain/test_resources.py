"""How sizes and durations are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.resources import counted, parse_duration, parse_memory
from jobmgr.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "amount_bytes"),
    [
        ("2000000", 2_000_000), ("1024k", 2**20), ("4GB", 4 * 2**30), ("4gb", 4 * 2**30), ("4 GiB", 4 * 2**30),
        ("512M", 512 * 2**20), ("1.5G", 3 * 2**29), ("2T", 2**41), (" 7000000B ", 7_000_000),
    ],
)  # fmt: skip
def test_memory_is_written_as_schedulers_write_it(text: str, amount_bytes: int) -> None:
    assert parse_memory(text, "memory") == amount_bytes


@pytest.mark.parametrize("text", ["0", "4", "512B", "1023k", "0.9M"])
def test_memory_without_its_unit_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="less than a megabyte; write it with its unit"):
        parse_memory(text, "memory")


@pytest.mark.parametrize(
    "text",
    ["", "GB", "-1GB", "4 G B", "1e9", "4PB", "4,5GB", "0x10", "nan", "inf", "1.GB", "4GB\0", "9" * 400],
)
def test_other_text_is_no_memory(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_memory(text, "resources.memory")

    assert refused.value.field == "resources.memory"


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("1:30:00", 5400), ("0:00:01", 1), ("100:00:00", 360_000), ("2-00:00:00", 172_800), ("1.12:00:00", 129_600),
        ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86_400), ("90", 90), ("1.5h", 5400), (" 3 m ", 180), ("0", 0),
    ],
)  # fmt: skip
def test_duration_is_written_as_clock_or_with_a_unit(text: str, duration_s: float) -> None:
    assert parse_duration(text, "walltime") == duration_s


@pytest.mark.parametrize(
    "text",
    ["", "24:00", "1:60:00", "1:00:60", "-1", "5 min", "1e3", "1:2:3", "inf", "nan", "1h30m", "9" * 5000,
     f"{'9' * 5000}:00:00"],
)  # fmt: skip
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_duration(text, "resources.walltime")

    assert refused.value.field == "resources.walltime"


@given(st.text(max_size=32))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    for parse in (parse_memory, parse_duration):
        try:
            assert parse(text, "field") >= 0
        except InvalidRequest as refused:
            assert refused.field == "field"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrent_jobs", 0),
        ("max_concurrent_jobs", -1),
        ("max_concurrent_jobs", 100_001),
        ("max_cpu_percent", 0.0),
        ("max_cpu_percent", 100.1),
        ("max_cpu_percent", float("nan")),
        ("min_memory_gb", -0.1),
        ("min_memory_gb", float("inf")),
        ("min_disk_gb", float("nan")),
    ],
)
def test_limit_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ResourceLimits(**{name: value})  # type: ignore[arg-type]

    assert refused.value.field == name


def test_limits_are_off_unless_set() -> None:
    limits = ResourceLimits()

    assert limits == ResourceLimits(None, None, None, None)


def test_what_is_counted_has_its_plural() -> None:
    assert [counted(number, "job") for number in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
    assert [counted(number, "process", "processes") for number in (1, 2)] == ["1 process", "2 processes"]
