"""What the service keeps to itself."""

from __future__ import annotations

from jobmgr.settings import clean_environment


def test_clean_environment_drops_our_settings_and_secrets() -> None:
    dirty = {
        "HOME": "/h",
        "JOBMGR_TOKEN": "x",
        "PGPASSFILE": "x",
        "PGSERVICE": "x",
        "PGSERVICEFILE": "x",
        "PGHOST": "h",
    }

    assert clean_environment(dirty) == {"HOME": "/h", "PGHOST": "h"}
