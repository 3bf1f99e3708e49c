"""A site: one configured place to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobmgr.domain.resources import Resources

LOCAL = "local"
SITE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"
BATCH = "batch"
# So many attempts of ours a site's scheduler has at once, unless its site says otherwise.
MAX_SUBMITTED = 500


class Way(StrEnum):
    """How commands get to a site."""

    LOCAL = "local"
    SSH = "ssh"


@dataclass(frozen=True, slots=True)
class Site:
    """One row. `local` is this machine, under keepers of ours; the others are foreign queues.

    `dialect` says which scheduler it is, `host` where its commands are run (None: on this machine). `work_dir` is the
    work directory there, an absolute path that the machines of the queue see too, and `work_id` what its file `id` said
    when it was first served, empty before: `work_dir` means the directory of this name and no other. A site that is not
    enabled gets no more jobs; those it has are watched. `max_submitted` and `max_running` are for all services
    together. `defaults` are asked for by jobs that ask for nothing else. `ssh` are options of the connection, by the
    names of SshHost.
    """

    name: str
    executor: str = BATCH
    dialect: str | None = None
    way: Way = Way.LOCAL
    host: str | None = None
    work_dir: str | None = None
    is_enabled: bool = True
    max_submitted: int = MAX_SUBMITTED
    max_running: int | None = None
    defaults: Resources = field(default_factory=Resources)
    ssh: Mapping[str, Any] = field(default_factory=dict)
    work_id: str = ""

    @property
    def is_local(self) -> bool:
        """Whether its jobs run under keepers of ours."""
        return self.executor == LOCAL

    @property
    def most_there(self) -> int:
        """How many attempts of ours it has at once. What a scheduler has it may start, so all of them may run."""
        return self.max_submitted if self.max_running is None else min(self.max_submitted, self.max_running)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the trial of a site: what was done, whether it went well, what was seen."""

    name: str
    is_well: bool
    said: str
