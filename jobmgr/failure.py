"""The codes of failed attempts: what a job's `error.code` says, and what `retry.on` may name.

Not here is what no rule retries: `cancelled`, `dependency_failed`, `internal_error`, and ends that nobody saw
(`lost`, `assumed_dead`), about which `on_lost` decides. Standard library only, because keepers use it.
"""

from __future__ import annotations

from enum import StrEnum


class Failure(StrEnum):
    """Why an attempt failed, as far as another one may do better."""

    # It ran.
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    MISSING_OUTPUT = "missing_output"
    # It could not be started.
    PROGRAM_NOT_FOUND = "program_not_found"
    NOT_EXECUTABLE = "not_executable"
    CWD_NOT_FOUND = "cwd_not_found"
    ARGUMENTS_TOO_LONG = "arguments_too_long"
    SPAWN_FAILED = "spawn_failed"
    SECRET_UNAVAILABLE = "secret_unavailable"  # noqa: S105 -- a code
    DISK_FULL = "disk_full"
    WORK_DIR_UNWRITABLE = "work_dir_unwritable"
    # A scheduler would not have it, or ended it. Nothing on this machine does; rules for both are taken here too.
    SUBMIT_REFUSED = "submit_refused"
    OUT_OF_MEMORY = "out_of_memory"
    PREEMPTED = "preempted"
    NODE_FAIL = "node_fail"
