"""Answers of the API made of values of the domain, and values of the domain made of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobmgr.credential import Reference, parse
from jobmgr.domain.audit import AuditEntry, AuditPage
from jobmgr.domain.environment import field_of
from jobmgr.domain.job import (
    Attempt,
    Dependency,
    Event,
    EventPosition,
    FileEntry,
    Job,
    JobError,
    JobPage,
    JobSpec,
    OnLost,
    Success,
)
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.queue import Queue, Tally
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Growth, Retry
from jobmgr.domain.site import Site, Step
from jobmgr.domain.user import ApiToken, User
from jobmgr.domain.why import Reason
from jobmgr.errors import AnswerNotUnderstood
from jobmgr.wire.answers import (
    AttemptAnswer,
    AuditAnswer,
    AuditEntryAnswer,
    DependencyAnswer,
    ErrorAnswer,
    EventAnswer,
    FileAnswer,
    JobAnswer,
    JobsAnswer,
    LimitsAnswer,
    MadeTokenAnswer,
    QueueAnswer,
    ReasonAnswer,
    SecretAnswer,
    SiteAnswer,
    SpecAnswer,
    StepAnswer,
    TokenAnswer,
    TrialAnswer,
    UserAnswer,
    WhyAnswer,
)

_ENCODER = msgspec.json.Encoder()


def encode(answer: object) -> bytes:
    """`answer` as JSON."""
    return _ENCODER.encode(answer)


def moment_text(moment: datetime) -> str:
    """An aware UTC time as it travels."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def moment_or_none(moment: datetime | None) -> str | None:
    """The same of a time that there need not be."""
    return None if moment is None else moment_text(moment)


def parse_moment(text: str) -> datetime:
    """The aware UTC time that `moment_text` wrote. Raises AnswerNotUnderstood."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise AnswerNotUnderstood(f"{text[:100]!r} is no time") from error


def job_answer(job: Job) -> JobAnswer:
    """`job` as it travels."""
    return JobAnswer(
        job.job_id,
        job.name,
        job.description,
        job.status,
        job.priority,
        job.queue,
        job.site,
        job.executor,
        job.user,
        job.draft,
        job.attempt,
        job.exit_code,
        _error_answer(job.error),
        moment_text(job.created_at),
        moment_or_none(job.due_at),
        moment_or_none(job.held_at),
        job.deps_left,
        moment_or_none(job.cancel_requested_at),
        moment_or_none(job.pause_requested_at),
        moment_or_none(job.queued_at),
        moment_or_none(job.started_at),
        moment_or_none(job.finished_at),
        job.handle,
        job.work_dir,
        list(job.tags),
        dict(job.extended_properties),
        job.key,
        job.v,
        job.kind,
    )


def to_job(answer: JobAnswer) -> Job:
    """The job that `job_answer` wrote."""
    return Job(
        job_id=answer.job_id,
        name=answer.name,
        description=answer.description,
        status=answer.status,
        priority=answer.priority,
        queue=answer.queue,
        site=answer.site,
        executor=answer.executor,
        user=answer.user,
        draft=answer.draft,
        attempt=answer.attempt,
        exit_code=answer.exit_code,
        error=_to_error(answer.error),
        created_at=parse_moment(answer.created_at),
        due_at=_parse_or_none(answer.due_at),
        held_at=_parse_or_none(answer.held_at),
        deps_left=answer.deps_left,
        cancel_requested_at=_parse_or_none(answer.cancel_requested_at),
        pause_requested_at=_parse_or_none(answer.pause_requested_at),
        queued_at=_parse_or_none(answer.queued_at),
        started_at=_parse_or_none(answer.started_at),
        finished_at=_parse_or_none(answer.finished_at),
        handle=answer.handle,
        work_dir=answer.work_dir,
        tags=tuple(answer.tags),
        extended_properties=answer.extended_properties,
        key=answer.key,
        v=answer.v,
        kind=answer.kind,
    )


def to_page(answer: JobsAnswer) -> JobPage:
    """The page that this answer shows."""
    return JobPage(
        jobs=[to_job(job) for job in answer.jobs],
        next_cursor=answer.next_cursor,
        position=EventPosition(answer.epoch, answer.seq),
        total=answer.total,
        total_is_exact=answer.total_is_exact,
    )


def attempt_answer(attempt: Attempt) -> AttemptAnswer:
    """`attempt` as it travels: without its token and lease, which are the right to write about it."""
    return AttemptAnswer(
        number=attempt.number,
        outcome=attempt.outcome,
        counted=attempt.counted,
        dispatcher=attempt.dispatcher,
        handle=attempt.handle,
        work_dir=attempt.work_dir,
        claimed_at=moment_text(attempt.claimed_at),
        started_at=moment_or_none(attempt.started_at),
        finished_at=moment_or_none(attempt.finished_at),
        unreachable_at=moment_or_none(attempt.unreachable_at),
        exit_code=attempt.exit_code,
        signal=attempt.signal,
        ended_by=attempt.ended_by,
        error=_error_answer(attempt.error),
        cpu_s=attempt.cpu_s,
        peak_memory_bytes=attempt.peak_memory_bytes,
        leftovers=attempt.leftovers,
        gpus=list(attempt.gpus),
        grown=attempt.grown.asked(),
    )


def to_attempt(answer: AttemptAnswer, job_id: str) -> Attempt:
    """The attempt that `attempt_answer` wrote; its token and lease stay with the service."""
    return Attempt(
        job_id=job_id,
        number=answer.number,
        token="",
        lease=0,
        dispatcher=answer.dispatcher,
        counted=answer.counted,
        outcome=answer.outcome,
        handle=answer.handle,
        work_dir=answer.work_dir,
        claimed_at=parse_moment(answer.claimed_at),
        started_at=_parse_or_none(answer.started_at),
        finished_at=_parse_or_none(answer.finished_at),
        unreachable_at=_parse_or_none(answer.unreachable_at),
        exit_code=answer.exit_code,
        signal=answer.signal,
        ended_by=answer.ended_by,
        error=_to_error(answer.error),
        cpu_s=answer.cpu_s,
        peak_memory_bytes=answer.peak_memory_bytes,
        leftovers=answer.leftovers,
        gpus=tuple(answer.gpus),
        grown=Resources.of(answer.grown),
    )


def event_answer(event: Event) -> dict[str, Any]:
    """`event` as it travels: an EventAnswer with the changed fields beside."""
    return {
        **event.data,
        "seq": event.seq,
        "at": moment_text(event.at),
        "kind": event.kind,
        "job_id": event.job_id,
        "user": event.user,
        "v": event.v,
    }


def to_event(answer: Mapping[str, Any]) -> Event:
    """The event that `event_answer` wrote. Raises AnswerNotUnderstood."""
    try:
        told = msgspec.convert(answer, EventAnswer)
    except msgspec.ValidationError as error:
        raise AnswerNotUnderstood(f"in an event, {error}") from error
    return Event(
        seq=told.seq,
        at=parse_moment(told.at),
        kind=told.kind,
        job_id=told.job_id,
        user=told.user,
        v=told.v,
        data={name: value for name, value in answer.items() if name not in _OF_EVERY_EVENT},
    )


_OF_EVERY_EVENT = frozenset(EventAnswer.__struct_fields__)


def spec_answer(spec: JobSpec) -> SpecAnswer:
    """`spec` as it travels."""
    return SpecAnswer(
        command=list(spec.command),
        env={
            name: SecretAnswer(str(value)) if isinstance(value, Reference) else value
            for name, value in spec.env.items()
        },
        cwd=spec.cwd,
        resources=spec.resources.asked(),
        max_attempts=spec.retry.max_attempts,
        backoff_s=spec.retry.backoff_s,
        retry_on=sorted(spec.retry.on),
        growth=spec.retry.growth.stated(),
        on_lost=spec.on_lost.value,
        exit_codes=list(spec.success.exit_codes),
        required_files=list(spec.success.required_files),
        depends_on=[
            DependencyAnswer(dependency.job_id or None, dependency.when, dependency.met)
            for dependency in spec.depends_on
        ],
        grown=spec.grown.asked(),
        payload=None if spec.payload is None else dict(spec.payload),
    )


def to_spec(answer: SpecAnswer) -> JobSpec:
    """The spec that `spec_answer` wrote."""
    return JobSpec(
        command=tuple(answer.command),
        env={
            name: parse(value.secret, field_of(name)) if isinstance(value, SecretAnswer) else value
            for name, value in answer.env.items()
        },
        cwd=answer.cwd,
        resources=Resources.of(answer.resources),
        retry=Retry(
            answer.max_attempts, answer.backoff_s, frozenset(answer.retry_on), Growth.of(answer.growth)
        ),
        on_lost=OnLost(answer.on_lost),
        success=Success(tuple(answer.exit_codes), tuple(answer.required_files)),
        depends_on=tuple(
            Dependency(dependency.job_id or "", dependency.when, dependency.met)
            for dependency in answer.depends_on
        ),
        grown=Resources.of(answer.grown),
        payload=answer.payload,
    )


def why_answer(job_id: str, reasons: Sequence[Reason]) -> WhyAnswer:
    """`reasons` as they travel."""
    told = [
        ReasonAnswer(reason.code, reason.message, moment_or_none(reason.expected_start)) for reason in reasons
    ]
    return WhyAnswer(job_id, told)


def to_reasons(answer: WhyAnswer) -> list[Reason]:
    """The reasons that `why_answer` wrote."""
    return [
        Reason(reason.code, reason.message, _parse_or_none(reason.expected_start))
        for reason in answer.reasons
    ]


def file_answer(entry: FileEntry) -> FileAnswer:
    """`entry` as it travels."""
    return FileAnswer(entry.path, entry.size_bytes, moment_text(entry.modified_at))


def to_file(answer: FileAnswer) -> FileEntry:
    """The entry that `file_answer` wrote."""
    return FileEntry(answer.path, answer.size_bytes, parse_moment(answer.modified_at))


def queue_answer(queue: Queue) -> QueueAnswer:
    """`queue` as it travels, with every tally."""
    counts = {tally.value: queue.counts.get(tally, 0) for tally in Tally}
    return QueueAnswer(queue.name, queue.paused, queue.max_running, counts)


def to_queue(answer: QueueAnswer) -> Queue:
    """The queue that `queue_answer` wrote."""
    counts = {tally: answer.counts.get(tally.value, 0) for tally in Tally}
    return Queue(answer.name, answer.paused, answer.max_running, counts)


def site_answer(site: Site, trouble: str) -> SiteAnswer:
    """`site` as it travels; `trouble` is why it gets no jobs from the service that is asked, if it does not."""
    return SiteAnswer(
        name=site.name,
        kind=site.dialect or site.executor,
        host=site.host,
        work_dir=site.work_dir,
        enabled=site.is_enabled,
        max_submitted=None if site.is_local else site.max_submitted,
        max_running=site.max_running,
        defaults=site.defaults.asked(),
        ssh={name: value for name, value in site.ssh.items() if value is not None},
        trouble=trouble or None,
    )


def trial_answer(name: str, steps: Sequence[Step]) -> TrialAnswer:
    """The trial of a site as it travels."""
    told = [StepAnswer(step.name, step.is_well, step.said) for step in steps]
    return TrialAnswer(name, all(step.is_well for step in steps), told)


def limits_answer(limits: ResourceLimits) -> LimitsAnswer:
    """`limits` as they travel."""
    return LimitsAnswer(
        limits.max_concurrent_jobs, limits.max_cpu_percent, limits.min_memory_gb, limits.min_disk_gb
    )


def to_limits(answer: LimitsAnswer) -> ResourceLimits:
    """The limits that `limits_answer` wrote."""
    return ResourceLimits(
        answer.max_concurrent_jobs, answer.max_cpu_percent, answer.min_memory_gb, answer.min_disk_gb
    )


def user_answer(user: User) -> UserAnswer:
    """`user` as it travels."""
    return UserAnswer(
        user.name, user.role, list(user.groups), user.is_disabled, moment_or_none(user.created_at)
    )


def token_answer(token: ApiToken) -> TokenAnswer:
    """`token` as it travels."""
    return TokenAnswer(
        id=token.id,
        user=token.user,
        label=token.label,
        scopes=list(token.scopes),
        created_at=moment_text(token.created_at),
        created_by=token.created_by,
        expires_at=moment_or_none(token.expires_at),
        revoked_at=moment_or_none(token.revoked_at),
        last_used_at=moment_or_none(token.last_used_at),
    )


def made_token_answer(token: ApiToken, shown: str) -> MadeTokenAnswer:
    """A new `token` as it travels, with what its user is to show."""
    return MadeTokenAnswer(**msgspec.structs.asdict(token_answer(token)), token=shown)


def audit_answer(page: AuditPage) -> AuditAnswer:
    """`page` as it travels."""
    return AuditAnswer([_entry_answer(entry) for entry in page.entries], page.next_cursor)


def _entry_answer(entry: AuditEntry) -> AuditEntryAnswer:
    return AuditEntryAnswer(
        entry.seq,
        moment_text(entry.at),
        entry.actor,
        entry.origin,
        entry.kind,
        entry.job_id,
        dict(entry.changed),
    )


def _error_answer(error: JobError | None) -> ErrorAnswer | None:
    return None if error is None else ErrorAnswer(error.code, error.message)


def _to_error(answer: ErrorAnswer | None) -> JobError | None:
    return None if answer is None else JobError(answer.code, answer.message)


def _parse_or_none(text: str | None) -> datetime | None:
    return None if text is None else parse_moment(text)
