"""Amounts as people read them."""

from __future__ import annotations

_KB = 1000


def in_bytes(size_bytes: int) -> str:
    """A number of bytes in powers of 1000, as disks are sold and `min_disk_gb` counts."""
    value = float(size_bytes)
    for unit in ("bytes", "KB", "MB", "GB"):
        if value < _KB:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= _KB
    return f"{value:.1f} TB"


def some(names: list[str], most: int = 5) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
