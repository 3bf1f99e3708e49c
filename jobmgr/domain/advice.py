"""What is worth telling about jobs that are stored all the same."""

from __future__ import annotations

from collections.abc import Sequence

from jobmgr.domain.job import NewJob
from jobmgr.domain.site import LOCAL


def advice(jobs: Sequence[NewJob]) -> list[str]:
    """Sentences about what jobs of this machine ask for in vain, each about the first of those that ask so."""
    # Of a bulk most jobs ask for nothing, and share that.
    asking = {id(job.spec.resources): job for job in reversed(jobs) if _is_here(job)}
    sentences: dict[tuple[str, ...], str] = {}
    for job in reversed(asking.values()):
        if names := job.spec.resources.schedulers_only():
            sentences.setdefault(names, _sentence(job.at, names))
    return list(sentences.values())


def same_project(project: str, other: str) -> str:
    """What is worth telling of a simulation whose project is that of the job `other`, which has not ended."""
    return (
        f"project_path: job {other}, which has not ended, is of {project!r}, too; ANSYS locks a project that is open,"
        " so one of them may fail: submit a copy of it, or submit it when the other has ended"
    )


def _is_here(job: NewJob) -> bool:
    return LOCAL in (job.site, job.executor)


def _sentence(at: str, names: Sequence[str]) -> str:
    fields = ", ".join(f"{at}resources.{name}" for name in names)
    verb = "means" if len(names) == 1 else "mean"
    return (
        f"{fields}: {verb} nothing on this machine; name the `site` whose scheduler is meant, or leave it out"
    )
