"""All verbs of the product in one object."""

from __future__ import annotations

from jobmgr.manager.files import Files
from jobmgr.manager.jobs import Jobs
from jobmgr.manager.queues import Queues


class Manager(Jobs, Files, Queues):
    """What front doors hold: the verbs on jobs, their files, queues and limits."""
