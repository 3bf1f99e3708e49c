"""All verbs of the product in one object."""

from __future__ import annotations

from jobmgr.domain.once import Once
from jobmgr.manager.jobs import Jobs
from jobmgr.manager.progress import Progresses
from jobmgr.manager.queues import Queues
from jobmgr.manager.sites import Sites


class Manager(Jobs, Queues, Sites, Progresses):
    """What front doors hold: the verbs on jobs, their files, queues, limits, sites, their clusters, and simulations."""

    def under(self, once: Once) -> Manager:
        """The same verbs, of which one is called: its change is made once, and answered alike when asked for again.

        Raises KeyReused if the key of `once` was used for another change.
        """
        view = Manager()
        view.parts, view.once = self.parts, once
        return view
