"""Submitting to a service elsewhere, with this machine to fall back on."""

from __future__ import annotations

import asyncio
import logging
from subprocess import CompletedProcess

from jobmgr.client.client import PATIENCE_S, Client
from jobmgr.errors import NobodyListens, SimulationFailed
from jobmgr.hfss import HFSSSimulationConfig

logger = logging.getLogger(__name__)


async def submit_job_to_manager(
    config: HFSSSimulationConfig,
    priority: int = 0,
    manager_url: str = "http://localhost:8080",
    *,
    patience_s: float = PATIENCE_S,
) -> str:
    """Store a simulation at the service of this URL; its id, which is `config.jobid`.

    If the connection is refused, so that certainly nobody has it, this program runs it to its end, or hands it to its
    scheduler, with a warning; nothing is stored then. A lost answer is asked for again, under a key, for `patience_s`,
    and then raised as AnswerLost: it is never run twice. Raises InvalidRequest, Conflict; ServiceUnreachable if it is
    not known whether anybody listens there; SimulationFailed if the run here fails.
    """
    try:
        async with Client(manager_url, patience_s=patience_s) as client:
            return await client.simulate(config, priority=priority)
    except NobodyListens as error:
        logger.warning("%s; simulation %s is run by this program, and stored nowhere", error, config.jobid)
    ended = await asyncio.to_thread(config.run_simulation)
    if isinstance(ended, CompletedProcess) and ended.returncode != 0:
        raise SimulationFailed(config.jobid, ended.returncode, ended.stderr)
    return config.jobid
