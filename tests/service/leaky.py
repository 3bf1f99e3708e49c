"""A service with one hole in it, to show that whoever looks for leaked secrets finds them: leaky.py HOLE COMMAND..."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from typing import Any

from jobmgr import credential
from jobmgr.cli.main import main
from jobmgr.domain import environment
from jobmgr.executors.local import LocalExecutor


def stored() -> None:
    """The values are stored instead of where they are."""

    def stated(env: environment.Environment) -> Any:
        return {
            name: value if isinstance(value, str) else credential.fetch(value, name, os.environ)
            for name, value in env.items()
        }

    environment.stated = stated


def logged() -> None:
    """They are written into the log."""
    _before_handing_over(lambda _live, secrets: logging.getLogger("leaky").info("with %s", secrets))


def shown() -> None:
    """They are arguments of the command, for `ps` to show."""

    def put(live: Any, secrets: Any) -> None:
        arguments = [f"{name}={value}" for name, value in secrets.items()]
        live.launch = replace(
            live.launch, command=("sh", "-c", '"$@" & wait', "sh", *("env", *arguments), *live.launch.command)
        )

    _before_handing_over(put)


HOLES = {hole.__name__: hole for hole in (stored, logged, shown)}


def _before_handing_over(act: Any) -> None:
    whole = LocalExecutor._hand_over

    def leaky(self: LocalExecutor, live: Any, link: Any, secrets: Any) -> None:
        act(live, secrets)
        whole(self, live, link, secrets)

    LocalExecutor._hand_over = leaky  # type: ignore[method-assign]


if __name__ == "__main__":
    HOLES[sys.argv[1]]()
    # What follows is an interpreter, `-m jobmgr` and its arguments.
    main(sys.argv[5:])
