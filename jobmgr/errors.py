"""Every exception of jobmgr. Each has a stable `code`, the facts as attributes, and says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class JobmgrError(Exception):
    """Root of all errors that jobmgr raises on purpose; `code` is stable and appears in REST answers."""

    code: ClassVar[str] = "error"


class InvalidRequest(JobmgrError):
    """What was asked cannot be understood or is not allowed; `field` names where, as `jobs[3].env.PATH`."""

    code = "invalid_request"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class SecretUnavailable(InvalidRequest):
    """A secret that `field` refers to cannot be had."""

    code = "secret_unavailable"

    def __init__(self, field: str, reference: str, why: str) -> None:
        super().__init__(field, f"the secret {reference} cannot be had: {why}")
        self.reference = reference


class DependencyCycle(InvalidRequest):
    """The jobs of one bulk wait for each other."""

    code = "dependency_cycle"


class AmbiguousId(InvalidRequest):
    """The beginning of an id is that of several jobs; `candidates` are some of their ids."""

    code = "ambiguous_id"

    def __init__(self, prefix: str, candidates: Sequence[str], *, are_all: bool) -> None:
        found = ", ".join(candidates) + ("" if are_all else ", ...")
        super().__init__(
            "", f"{prefix!r} is the beginning of several ids: {found}; write more of the one you mean"
        )
        self.prefix = prefix
        self.candidates = candidates


class InvalidConfig(InvalidRequest, ValueError):
    """A simulation cannot be described so; `field` names where, as `scheduler_options.time`."""


class PathNotFound(InvalidConfig, FileNotFoundError):
    """A file that a simulation needs is not on this machine."""


class NotFound(JobmgrError):
    """What was named does not exist, or is not the caller's to see."""

    code = "not_found"


class JobNotFound(NotFound, RuntimeError):
    """No job has this id."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}")
        self.job_id = job_id


class NotASimulation(NotFound):
    """The job was not made of a configuration."""

    code = "not_a_simulation"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id!r} is no simulation: it was submitted as a command")
        self.job_id = job_id


class QueueNotFound(NotFound):
    """No queue has this name."""

    code = "queue_not_found"

    def __init__(self, queue: str) -> None:
        super().__init__(f"there is no queue {queue!r}; `jobmgr queue limit {queue} N` makes it")
        self.queue = queue


class SiteNotFound(NotFound):
    """No site has this name."""

    code = "site_not_found"

    def __init__(self, site: str) -> None:
        super().__init__(f"there is no site {site!r}; see `jobmgr site ls`")
        self.site = site


class UserNotFound(NotFound):
    """No user has this name."""

    code = "user_not_found"

    def __init__(self, user: str) -> None:
        super().__init__(f"there is no user {user!r}; see `jobmgr user ls`")
        self.user = user


class ApiTokenNotFound(NotFound):
    """No API token has this id, or it is somebody else's."""

    code = "api_token_not_found"

    def __init__(self, token_id: str) -> None:
        super().__init__(f"there is no API token {token_id!r}; see `jobmgr token ls`")
        self.token_id = token_id


class FileMissing(NotFound):
    """The job has no such file (yet)."""

    code = "file_not_found"


class Conflict(JobmgrError):
    """The request is well formed but does not fit the present state."""

    code = "conflict"


class JobExists(Conflict):
    """A job with the chosen id is already stored."""

    code = "job_exists"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"a job {job_id!r} exists already; choose another job_id or leave it out")
        self.job_id = job_id


class SimulationExists(JobExists):
    """The id is that of a job with another configuration, of which the fields `different` differ."""

    def __init__(self, job_id: str, different: Sequence[str]) -> None:
        super().__init__(job_id)
        how = f"another configuration ({', '.join(different)})" if different else "something else"
        self.args = (f"jobid: a job {job_id!r} with {how} is stored; choose another jobid or leave it out",)
        self.different = tuple(different)
        self.field = "jobid"


class KeyReused(Conflict):
    """The key was used for something else; `field` says where in the submitted jobs it stood, if it did."""

    code = "key_reused"

    def __init__(self, key: str, other: str, field: str = "") -> None:
        said = f"the key {key!r} was used for {other}; choose another key for another change"
        super().__init__(f"{field}: {said}" if field else said)
        self.key = key
        self.field = field


class IllegalTransition(Conflict):
    """The job's status does not allow this."""

    code = "illegal_transition"

    def __init__(self, job_id: str, status: str, verb: str) -> None:
        super().__init__(f"job {job_id!r} is {status}; it cannot be {verb}")
        self.job_id = job_id
        self.status = status
        self.verb = verb


class EventsGone(JobmgrError):
    """The event cursor is of another database epoch, pruned, or ahead; read the state anew and start there."""

    code = "events_gone"

    def __init__(self, reason: str, *, epoch: str, seq: int) -> None:
        super().__init__(f"{reason}; read the jobs again and follow events from {epoch}:{seq}")
        self.epoch = epoch
        self.seq = seq


class AccessDenied(JobmgrError):
    """The caller may not do this."""

    code = "access_denied"


class TooManyRequests(JobmgrError):
    """The caller asks too often; nothing was done. It may ask again after `retry_after_s` (None: it was not said)."""

    code = "too_many_requests"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreError(JobmgrError):
    """The database cannot be used as it is; a person has to act."""

    code = "store_error"


class SchemaMissing(StoreError):
    """The database has no jobmgr tables, or older ones."""

    code = "schema_outdated"


class SchemaTooNew(StoreError):
    """The database was written by a newer jobmgr."""

    code = "schema_too_new"


class NotADatabase(StoreError):
    """The file is not a database of ours."""

    code = "not_a_database"


class DatabaseInUse(StoreError):
    """Another jobmgr service already serves this SQLite file, and answers at `url`; None: it does not, or not yet."""

    code = "database_in_use"

    def __init__(self, message: str, url: str | None = None) -> None:
        super().__init__(message)
        self.url = url


class StoreUnavailable(JobmgrError):
    """The database could not be reached or was busy too long. Transient: the same call may be repeated."""

    code = "store_unavailable"


class QueryTooSlow(StoreUnavailable):
    """The database was at it for longer than one statement may take. Less may be asked for, or the same later."""

    code = "query_too_slow"


class DatabaseMoved(StoreUnavailable):
    """The SQLite file was deleted or replaced while it is open. Transient like an outage: it may be put back."""

    code = "database_moved"


class ServiceUnreachable(JobmgrError):
    """No jobmgr service answers at the URL; `remedy` is what who reads this can do about it."""

    code = "service_unreachable"

    def __init__(self, url: str, reason: str, remedy: str = "") -> None:
        super().__init__("; ".join(filter(None, (f"no jobmgr service answers at {url} ({reason})", remedy))))
        self.url = url


class AnswerNotUnderstood(JobmgrError):
    """What answers is no jobmgr service, or one of another version; `what` says where and how that shows."""

    code = "answer_not_understood"

    def __init__(self, what: str) -> None:
        super().__init__(f"what answers there is no jobmgr of this version: {what}")


class NobodyListens(ServiceUnreachable):
    """The connection was refused: no program at all is at the URL, so none has got what was to be sent."""


class NoServiceRunning(ServiceUnreachable):
    """No service of this state directory runs, and no other service was named."""

    def __init__(self, home: str) -> None:
        super().__init__("", "")
        self.args = (
            f"no jobmgr service of {home} runs; start one with `jobmgr serve`, or name one with --url or JOBMGR_URL",
        )
        self.home = home


class AnswerLost(JobmgrError, RuntimeError):
    """A change was sent and its answer did not come, so it is unknown whether it was made; `look` tells how to see."""

    code = "answer_lost"

    def __init__(self, url: str, reason: str, look: str) -> None:
        super().__init__(
            f"{url} did not answer ({reason}); it is unknown whether the change was made; {look}"
        )
        self.url = url
        self.look = look


class NotRunning(JobmgrError, RuntimeError):
    """What was asked needs a service, which this program did not start, or stopped meanwhile."""

    code = "not_running"


class RemoteError(JobmgrError):
    """The service answered with a problem the client has no class for."""

    code = "remote_error"

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.remote_code = code


class ExecutorUnavailable(JobmgrError):
    """The executor cannot start anything right now."""

    code = "executor_unavailable"


class SubmitError(JobmgrError):
    """A scheduler was asked to take a job; `words` are what it said, of the command `argv`."""

    said: ClassVar[str] = ""

    def __init__(self, scheduler: str, argv: Sequence[str], exit_status: int | None, words: str) -> None:
        super().__init__(f"{scheduler} {self.said}: {words}")
        self.scheduler = scheduler
        self.argv = tuple(argv)
        self.exit_status = exit_status
        self.words = words


class SubmitRefused(SubmitError):
    """It will not have the job."""

    code = "submit_refused"
    said = "refused the job"


class SchedulerUnavailable(SubmitError):
    """It certainly has not taken the job now. Transient: the same may be submitted again."""

    code = "scheduler_unavailable"
    said = "did not take the job now; try again later"


class SubmitDoubtful(SubmitError):
    """Whether it took the job is not known: look for the job's name in its queue before submitting it again."""

    code = "submit_doubtful"
    said = "did not say clearly whether it took the job; look for it in the queue before you submit it again"


class SimulationFailed(JobmgrError):
    """A simulation that was run by this program itself ended with an error; `stderr` is what it said."""

    code = "simulation_failed"

    def __init__(self, job_id: str, exit_code: int, stderr: str) -> None:
        said = stderr.strip()[-500:] or "it said nothing on its standard error"
        super().__init__(f"simulation {job_id!r} ended with {exit_code}: {said}")
        self.job_id = job_id
        self.exit_code = exit_code
        self.stderr = stderr


class WaitTimeout(JobmgrError):
    """The jobs waited for had not all ended in time."""

    code = "wait_timeout"


class AddressUnavailable(JobmgrError, RuntimeError):
    """The service cannot listen where it was told to."""

    code = "address_unavailable"


class UnsafeFile(JobmgrError):
    """A file with a secret is not one that only its owner can have written and read; a person has to look."""

    code = "unsafe_file"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}; delete it, and the next start makes a new one")
        self.path = path


class SiteError(JobmgrError):
    """Something at a site, reached over `host`."""

    code = "site_error"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        self.reason = reason


class SiteUnreachable(SiteError):
    """A command certainly did not start, because the way to its host could not be opened. Transient."""

    code = "site_unreachable"

    def again_in(self, pause_s: float) -> SiteUnreachable:
        """The same, for who asks before the next try."""
        return type(self)(self.host, f"{self.reason} (tried just now, and again in {pause_s:.0f} s)")


class OtherDirectory(SiteUnreachable):
    """What lies where the site's work directory should be is another one: a person has to mount the right one."""

    code = "other_directory"


class HostKeyRefused(SiteUnreachable):
    """The host did not prove that it is the known one; a person has to look."""

    code = "host_key_refused"


class LoginRefused(SiteUnreachable):
    """The host does not let us in; a person has to give it a key that it takes."""

    code = "login_refused"


class ClusterUnavailable(JobmgrError, RuntimeError):
    """A site's scheduler cannot be asked or understood now. `last` is what it told before, None if nothing."""

    code = "cluster_unavailable"

    def __init__(self, site: str, reason: str, last: Any = None) -> None:
        super().__init__(
            f"the scheduler of the site {site} does not tell: {reason}; `jobmgr site test {site}` looks for the cause"
        )
        self.site = site
        self.reason = reason
        self.last = last


class SiteSilent(SiteError):
    """What was asked of the site's files was not answered; it may be asked again."""

    code = "site_silent"


class SiteRefused(SiteError):
    """The site's system refused what was asked of its files, in its own words."""

    code = "site_refused"
