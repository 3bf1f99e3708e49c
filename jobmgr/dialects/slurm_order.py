"""What is said to sbatch about an order. Source: sbatch(1) of Slurm 22.05."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from jobmgr.dialects import quoting, request
from jobmgr.dialects.dialect import Order
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest

# Options that say how a submission is named, found again, and run once. Theirs is the executor's word.
_OURS = (
    "job-name", "array", "output", "error", "chdir", "hold", "no-requeue", "requeue", "export", "export-file",
    "open-mode", "propagate", "get-user-env", "parsable", "wrap", "wait", "test-only", "clusters", "uid", "gid", "help",
    "usage", "version", "input", "quiet",
)  # fmt: skip
# Source: sbatch(1), `--nice`: "+/- 2147483645".
_MOST_NICE = 2**31 - 3
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?:=.*)?")
_GPU_TYPE = re.compile(r"[A-Za-z0-9_.-]+")
_MEBIBYTE = 1024**2


def directives(order: Order) -> list[str]:
    """What goes after `#SBATCH`."""
    # Of an option that is said twice the last one counts: ours come last.
    return [
        *_rank(order.priority),
        # The site's before the job's own.
        *options(dict.fromkeys((*order.directives, *order.resources.directives))),
        *_resource_options(order.resources),
        *_own_options(order),
    ]


def nice(priority: int) -> int:
    """What a job's priority is in SLURM's words, which count the other way round."""
    return max(-_MOST_NICE, min(_MOST_NICE, -priority))


def _rank(priority: int) -> list[str]:
    """What everybody may say; from others than operators a `nice` below 0 would be refused with its job."""
    return [f"--nice={nice(priority)}"] if priority < 0 else []


def options(texts: Iterable[str]) -> list[str]:
    """What users say in sbatch's own words, in the order given. Raises InvalidRequest for what they may not."""
    return [_user_option(text) for text in texts]


def _user_option(text: str) -> str:
    field = "resources.directives"
    match = _OPTION.fullmatch(text)
    if match is None:
        raise InvalidRequest(field, f"{text[:100]!r} is no long option of sbatch; write it as --nice=100")
    # sbatch takes the beginning of an option for the option.
    taken = next((name for name in _OURS if name.startswith(match[1])), None)
    if taken is not None:
        raise InvalidRequest(field, f"{text[:100]!r}: --{taken} is set by jobmgr itself; leave it out")
    return quoting.directive(text, field)


def _resource_options(asked: Resources) -> list[str]:
    """In the order of `Resources`; docs/executors.md has the same as a table."""
    _check_combinations(asked)
    options = [
        ("cpus-per-task", None if asked.cpus is None else str(asked.cpus)),
        ("mem", _mebibytes(asked.memory_bytes)),
        ("gpus-per-node", _gpus(asked)),
        ("time", None if asked.walltime_s is None else _clock(asked.walltime_s)),
        ("nodes", None if asked.nodes is None else str(asked.nodes)),
        ("ntasks", None if asked.tasks is None else str(asked.tasks)),
        ("partition", _plain_text(asked.partition, "partition")),
        ("account", _plain_text(asked.account, "account")),
        ("qos", _plain_text(asked.qos, "qos")),
        ("mem-per-cpu", _mebibytes(asked.memory_per_cpu_bytes)),
        ("reservation", _plain_text(asked.reservation, "reservation")),
        ("constraint", _plain_text(asked.constraint, "constraint")),
        ("licenses", _plain_list(asked.licenses, "licenses")),
        ("mail-user", _plain_text(asked.mail_to, "mail_to")),
        ("mail-type", _plain_list([event.upper() for event in asked.mail_on], "mail_on")),
    ]
    written = [f"--{name}={value}" for name, value in options if value is not None]
    return [*written, "--exclusive"] if asked.exclusive else written


def _check_combinations(asked: Resources) -> None:
    if asked.memory_bytes is not None and asked.memory_per_cpu_bytes is not None:
        raise InvalidRequest("resources.memory_per_cpu", "SLURM takes either this or memory; leave one away")
    if asked.gpu_type is not None and asked.gpus is None:
        raise InvalidRequest("resources.gpu_type", "says which GPUs, but not how many; set gpus too")
    if asked.mail_to is not None and not asked.mail_on:
        raise InvalidRequest(
            "resources.mail_to", "SLURM would never write; set mail_on to begin, end or fail"
        )


def _plain_text(value: str | None, field: str) -> str | None:
    return None if value is None else quoting.directive(value, f"resources.{field}")


def _plain_list(values: Sequence[str], field: str) -> str | None:
    return ",".join(quoting.directive(value, f"resources.{field}") for value in values) or None


def _mebibytes(size_bytes: int | None) -> str | None:
    """SLURM counts in these; more than was asked for is better than less."""
    return None if size_bytes is None else f"{request.units(size_bytes, _MEBIBYTE)}M"


def _gpus(asked: Resources) -> str | None:
    if asked.gpus is None:
        return None
    if asked.gpu_type is None:
        return str(asked.gpus)
    # `a100:1,v100` would ask for something else than one type.
    if _GPU_TYPE.fullmatch(asked.gpu_type) is None:
        raise InvalidRequest(
            "resources.gpu_type", f"{asked.gpu_type[:100]!r} is not a type; write letters, digits, _ . -"
        )
    return f"{asked.gpu_type}:{asked.gpus}"


def _clock(seconds: float) -> str:
    """Days-hours:minutes:seconds. SLURM rounds up to minutes."""
    minutes, second = divmod(max(1, math.ceil(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}"


def _own_options(order: Order) -> list[str]:
    """How the submission is named, found again, and run once."""
    options = [
        f"--job-name={quoting.directive(order.name, 'name')}",
        f"--output={_file_name(order.stdout, 'stdout')}",
        f"--error={_file_name(order.stderr, 'stderr')}",
        # A run that is not let through the gate must not wipe out what the first one wrote.
        "--open-mode=append",
        f"--chdir={quoting.double_quoted(order.cwd, 'cwd')}",
        "--no-requeue",
        "--export=NONE",
        # SLURM would give the job the limits of the process that submits.
        "--propagate=NONE",
    ]
    if order.elements is not None:
        options.append(f"--array=0-{order.elements - 1}")
    if order.is_held:
        options.append("--hold")
    return options


def _file_name(path: str, field: str) -> str:
    """A path in which SLURM replaces nothing. Source: sbatch(1), "FILENAME PATTERN"."""
    return quoting.double_quoted(path.replace("%", "%%"), field)
