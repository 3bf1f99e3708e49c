"""Times, sizes and numbers in words, as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from jobmgr.domain.resources import Resources, size_text


def utc_now() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)


def local(moment: datetime | None) -> str | None:
    """A time as the clock on the wall shows it, with its zone."""
    return None if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def recent(moment: datetime, now: datetime) -> str:
    """The time of day of what is within a day from now, the date of what is further away."""
    return (
        f"{moment.astimezone():%H:%M:%S}"
        if abs(now - moment) < timedelta(days=1)
        else f"{moment.astimezone():%Y-%m-%d}"
    )


def duration(start: datetime | None, end: datetime | None, now: datetime) -> str | None:
    """How long something took, or takes so far."""
    return None if start is None else seconds(((end or now) - start).total_seconds())


def seconds(count: float | None) -> str | None:
    """A number of seconds, as a clock shows it from one minute on."""
    if count is None:
        return None
    if count < 60:
        return f"{count:.1f} s"
    minutes, rest = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def ago(age_s: float | None) -> str | None:
    """How long ago something was."""
    if age_s is None:
        return None
    return "now" if age_s < 1 else f"{seconds(age_s)} ago"


def share(part: int | None, whole: int | None) -> str | None:
    """`3 of 8`; what is not known is left out."""
    if part is None or whole is None:
        return None if whole is None else str(whole)
    return f"{part} of {whole}"


def amounts(resources: Resources) -> list[tuple[str, object]]:
    """What is asked for by its name for people, sizes and times in words, and each item of a list by itself."""
    asked = resources.asked()
    for name, words in (("memory", size_text), ("memory_per_cpu", size_text), ("walltime", seconds)):
        unit = "s" if name == "walltime" else "bytes"
        if f"{name}_{unit}" in asked:
            asked[name] = words(asked.pop(f"{name}_{unit}"))
    return [
        (name, "yes" if item is True else item)
        for name, value in asked.items()
        for item in (value if isinstance(value, tuple) else (value,))
    ]
