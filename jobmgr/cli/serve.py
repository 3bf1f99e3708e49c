"""`serve`: the service in the foreground."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import click

from jobmgr import service
from jobmgr.api.guard import is_loopback
from jobmgr.cli import output
from jobmgr.cli.database import warn_of_password
from jobmgr.domain.limits import ResourceLimits
from jobmgr.settings import Settings, load, url_host, warnings

logger = logging.getLogger(__name__)

_LEVELS = ("debug", "info", "warning", "error")
# Of each command that runs a service.
drain_option = click.option(
    "--drain",
    type=click.Choice(["leave", "wait"]),
    default="leave",
    show_default=True,
    help="At the end: leave running jobs to run on, or wait for them.",
)


@click.command()
@click.option("--host", help="Address to listen on (127.0.0.1). Elsewhere every request needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (8080); 0: a free one.")
@click.option("--socket", metavar="PATH", help="A Unix socket beside the port, for this user only.")
@click.option("--database", metavar="URL", help="sqlite:///jobs.db or postgresql://user@host/name.")
@click.option("--work-dir", metavar="DIR", help="Where jobs run and their logs lie.")
@click.option("--max-concurrent-jobs", type=int, help="At most so many jobs at a time (the number of cores).")
@click.option("--max-cpu-percent", type=float, help="Start no job while the machine is busier than this.")
@click.option("--min-memory-gb", type=float, help="Start no job while less memory is available.")
@click.option("--min-disk-gb", type=float, help="Start no job while less disk space is free.")
@drain_option
@click.option(
    "--log-level", type=click.Choice(_LEVELS), default="info", show_default=True, help="What is logged."
)
def serve(*, drain: Literal["leave", "wait"], log_level: str, **flags: Any) -> None:
    """Run the service until Ctrl-C or SIGTERM. Jobs survive it: they run on, and the next start takes them up.

    Settings come from jobmgr.toml in this directory, then JOBMGR_* variables, then these options.
    """
    run(flags, drain=drain, log_level=log_level)


def run(
    flags: Mapping[str, Any],
    *,
    drain: Literal["leave", "wait"] = "leave",
    log_level: str = "info",
    limits_name: str | None = None,
    first_limits: ResourceLimits | None = None,
    remark: Callable[[ResourceLimits], str] | None = None,
) -> None:
    """Run the service with these settings above all others; the limits are as in `service.JobManager`.

    `remark` on the limits that hold follows the line that says where it listens.
    """
    _start_logging(log_level)
    warn_of_password(flags.get("database"))
    settings = load(flags, os.environ)
    unknown = list(warnings(os.environ))
    for sentence in unknown:
        logger.warning("%s", sentence)

    def tell(url: str, limits: ResourceLimits) -> None:
        output.line(f"listening on {url}")
        if settings.socket is not None:
            output.line(f"and on unix:{settings.socket}")
        if remark is not None:
            output.line(remark(limits))
        if settings.require_token or not is_loopback(settings.host):
            output.line(_on_tokens(settings, url))
        for sentence in unknown:
            output.line(f"warning: {sentence}")
        output.flush()

    service.serve(settings, drain=drain, on_ready=tell, limits_name=limits_name, first_limits=first_limits)


def _on_tokens(settings: Settings, url: str) -> str:
    token = "the token that is set" if settings.token else f"the token in {settings.token_file}"
    said = f"every request needs {token} or an API token; `jobmgr token make` makes one"
    if is_loopback(settings.host):
        return said
    where = settings.host
    if url_host(where) == "127.0.0.1":
        where = f"all addresses, as http://{socket.gethostname()}:{urlsplit(url).port}"
    return f"other machines reach it on {where}; {said}; tokens travel in clear unless a proxy speaks TLS in front"


def _start_logging(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Alembic tells at INFO what it looks at; what it did is in its revision table.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # At INFO asyncssh tells each command and each channel.
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


class OneLine(logging.Formatter):
    """Messages hold names that callers chose; none of them may look like another line or move the cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's name
        """The first line."""
        return output.clean(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- logging's name
        """The lines of a traceback, whose last one may hold any text: none begins as a line of the log does."""
        return "\n".join(f"  {output.clean(line)}" for line in super().formatException(ei).split("\n"))
