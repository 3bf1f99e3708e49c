"""The command `jobmgr`: which commands there are, and what its exit codes mean."""

from __future__ import annotations

import difflib
import gc
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import click

from jobmgr.cli import output
from jobmgr.errors import InvalidRequest, JobmgrError, NotFound, ServiceUnreachable, StoreUnavailable

DONE, JOB_FAILED, USAGE, NOT_FOUND, REFUSED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

# Modules are imported when their command is used: aiohttp alone would triple the time of `jobmgr --help`.
_COMMANDS = {
    "serve": ("serve", "Run the service: a database, an API, and the jobs."),
    "submit": ("submit", "Store a job, or a file of jobs, to be run."),
    "ls": ("jobs", "List jobs, newest first."),
    "show": ("jobs", "Show one job with its attempts and files."),
    "why": ("jobs", "Say why a job is where it is."),
    "logs": ("logs", "Print what a job wrote."),
    "cancel": ("verbs", "End jobs, running ones too."),
    "retry": ("verbs", "Run jobs that ended once more."),
    "pause": ("verbs", "Stop running jobs where they are."),
    "resume": ("verbs", "Let paused jobs go on."),
    "hold": ("verbs", "Keep waiting jobs from starting."),
    "release": ("verbs", "Let held jobs go."),
    "execute": ("verbs", "Queue jobs that were saved as drafts."),
    "priority": ("verbs", "Change which jobs run first."),
    "wait": ("wait", "Wait until jobs have ended."),
    "watch": ("watch", "Watch the jobs while they run."),
    "queue": ("queues", "List, pause, resume and limit queues."),
    "site": ("sites", "List, add, test, disable and remove sites: where jobs may run."),
    "cluster": ("cluster", "Show partitions, machines and jobs of sites."),
    "hfss": ("hfss", "Run a service for simulations, and submit them."),
    "user": ("users", "List, add, change and remove users."),
    "token": ("tokens", "List, make and revoke API tokens."),
    "report": ("report", "Tell who did what."),
    "limits": ("limits", "List and set the limits of the service."),
    "db": ("database", "Bring the database up to date, or check it."),
    "doctor": ("doctor", "Check this installation, and say what to do."),
    "demo": ("demo", "Run a small campaign on a service of its own."),
}


class _ReaderGoneError(Exception):
    """Whoever read our output (`| head`) has enough."""


def _imported(module: str) -> ModuleType:
    """Import without looking for garbage: what is imported stays, and searching it took a fifth of the time."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used; `--help` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """All commands, in the order in which a newcomer meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command from its module."""
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command = getattr(_imported(f"jobmgr.cli.{module}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; a name mistyped is answered with those it may mean."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], _COMMANDS, cutoff=0.65)
            hint = f" (Did you mean {' or '.join(near)}?)" if near else ""
            raise click.UsageError(error.message + hint, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A reader of our output that has gone is ours to judge; click would exit with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGoneError from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands in `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _tell_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    if not wanted:
        return
    metadata = importlib.import_module("importlib.metadata")
    try:
        version = metadata.version("jobmgr")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    output.line(f"jobmgr {version}")
    context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url", metavar="URL", help="The service to talk to (default: JOBMGR_URL, or the one of this user)."
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Print the version.",
)
def jobmgr(url: str | None) -> None:
    """Run commands as jobs that are stored first and started at most once per attempt.

    Exit codes: 0 done, 1 the job failed, 2 wrong usage or input, 3 not found, 4 refused,
    5 no service or no database answers, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    sys.exit(run(arguments))


def run(
    arguments: Sequence[str] | None = None,
    command: click.Command = jobmgr,
    name: str = "jobmgr",
    defaults: Mapping[str, Any] | None = None,
) -> int:
    """Run a command line and return its exit code; every expected error becomes one sentence on stderr.

    `defaults` are those of options that a program under another name has.
    """
    output.prepare()
    try:
        result = command.main(
            args=arguments, prog_name=name, standalone_mode=False, default_map=dict(defaults or {})
        )
        output.flush()
    except click.ClickException as error:
        output.usage_error(error)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (_ReaderGoneError, BrokenPipeError):
        # Nobody is left to tell.
        output.discard()
        return DONE
    except JobmgrError as error:
        output.error(str(error))
        return exit_code(error)
    except OSError as error:
        output.discard()
        output.error(str(error))
        return REFUSED
    return result if isinstance(result, int) else DONE


def exit_code(error: JobmgrError) -> int:
    """What the shell learns about `error`."""
    if isinstance(error, InvalidRequest):
        return USAGE
    if isinstance(error, NotFound):
        return NOT_FOUND
    return UNREACHABLE if isinstance(error, ServiceUnreachable | StoreUnavailable) else REFUSED
