import pytest

from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.resources import parse_duration, parse_memory
from jobmgr.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", 1024),
        ("4GB", 4 * 1024**3),
        ("512M", 512 * 1024**2),
        ("1.5 GiB", 3 * 1024**3 // 2),
        ("2tb", 2 * 1024**4),
    ],
)
def test_memory_counts_in_powers_of_1024(text: str, expected: int) -> None:
    assert parse_memory(text, "memory") == expected


@pytest.mark.parametrize("text", ["", "GB", "4 apples", "-1GB", "1e9", "four"])
def test_what_is_no_amount_of_memory_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^resources\.memory: "):
        parse_memory(text, "resources.memory")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("2h", 7200),
        ("1d", 86400),
        ("1:00:00", 3600),
        ("1-02:03:04", 93784),
    ],
)
def test_durations_are_read(text: str, expected: float) -> None:
    assert parse_duration(text, "walltime") == expected


@pytest.mark.parametrize("text", ["24:00", "", "1:60:00", "soon", "-5"])
def test_a_duration_that_could_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"1:30:00"):
        parse_duration(text, "walltime")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrent_jobs", 0),
        ("max_cpu_percent", 0.0),
        ("max_cpu_percent", 101.0),
        ("min_memory_gb", -1.0),
        ("min_disk_gb", float("inf")),
        ("min_disk_gb", float("nan")),
    ],
)
def test_limits_that_make_no_sense_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ResourceLimits(**{name: value})  # type: ignore[arg-type]

    assert caught.value.field == name
