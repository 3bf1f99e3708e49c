"""All verbs of the product in one object."""

from __future__ import annotations

from jobmgr.domain.access import Caller
from jobmgr.domain.once import Once
from jobmgr.manager.jobs import Jobs
from jobmgr.manager.progress import Progresses
from jobmgr.manager.queues import Queues
from jobmgr.manager.sites import Sites
from jobmgr.manager.users import Users


class Manager(Jobs, Queues, Sites, Progresses, Users):
    """What front doors hold: the verbs on jobs, their files, queues, limits, sites, their clusters, simulations, and
    users.
    """

    def under(self, once: Once) -> Manager:
        """The same verbs, of which one is called: its change is made once, and answered alike when asked for again.

        Raises KeyReused if the key of `once` was used for another change.
        """
        view = self.acting(self.caller)
        view.once = once
        return view

    def acting(self, caller: Caller | None) -> Manager:
        """The same verbs for `caller`, as far as it may use them; None: for the service itself."""
        view = Manager()
        view.parts, view.caller = self.parts, caller
        return view
