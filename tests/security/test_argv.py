"""A job's words reach its process as they are: nobody on the way reads them."""

from __future__ import annotations

import json
import sys

import pytest

from tests.api.conftest import Api
from tests.security.guards import ARGUMENT_LIST, ENVIRONMENT_NAMES, NO_NULS, rests_on

SHOW = "import json, os, sys; json.dump([sys.argv[1:], os.environ['TRAP']], sys.stdout)"
WORDS = [
    "", " ", "a b", "$HOME", "$(id)", "`id`", "'", '"', "\\", "\\n", "\n", "\t", ";id", "&", "|", ">x", "<x", "*", "?",
    "[a]", "{a,b}", "~", "#", "!", "%PATH%", "^", "-x", "--", "=", "é漢", "\x1b[2J", "\x7f", "\u202e", "\r\n",
    "".join(map(chr, range(1, 256))),
]  # fmt: skip


@rests_on(ARGUMENT_LIST)
async def test_no_shell_reads_the_arguments_of_a_job(api: Api) -> None:
    job = await api.run(sys.executable, "-c", SHOW, *WORDS, env={"TRAP": WORDS[-1]})

    assert job.status == "completed"
    log = await api.get(f"/api/v1/jobs/{job.job_id}/logs/stdout")
    assert json.loads(log.body) == [WORDS, WORDS[-1]]


@rests_on(ENVIRONMENT_NAMES)
@pytest.mark.parametrize("name", ["A=B", "", "A\nB", "JOBMGR_URL", "JOBMGR_ATTEMPT_TOKEN"])
async def test_a_variable_cannot_say_more_than_its_name(api: Api, name: str) -> None:
    asked = {"command": ["true"], "env": {name: "x"}, "draft": True}

    assert (await api.post("/api/v1/jobs", json=asked)).status == 422


@rests_on(NO_NULS)
async def test_an_argument_does_not_end_before_its_end(api: Api) -> None:
    asked = {"command": ["true", "seen\0unseen"], "draft": True}

    assert (await api.post("/api/v1/jobs", json=asked)).status == 422
