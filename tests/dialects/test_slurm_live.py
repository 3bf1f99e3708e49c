"""The dialect and a real SLURM: what is asked reaches the job, and what happens to jobs is understood."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobmgr.dialects.dialect import (
    Busy,
    Cause,
    Command,
    Compliance,
    Doubtful,
    NotUnderstood,
    Partition,
    Phase,
    Refused,
    Standing,
    Submitted,
    Wish,
)
from jobmgr.domain.resources import Resources
from tests.dialects.slurm_jobs import (
    DIALECT,
    SLEEP,
    Zoo,
    accepted,
    fill_zoo,
    find,
    look,
    order,
    runs,
    submit,
    write,
)
from tests.patience import eventually
from tests.slurm import MAX_ARRAY_SIZE, MEMORY_MB, NODES, Slurm

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def zoo(slurm: Slurm) -> Iterator[Zoo]:
    """Jobs that meet all kinds of ends; filled before the first test, because some ends take a minute."""
    yield fill_zoo(slurm)
    slurm.run(["scancel", "--me"])


@pytest.fixture(autouse=True)
def _zoo_is_filled(zoo: Zoo) -> None:
    """Requested by each test, so that the minute passes while others run."""


async def seen_as(slurm: Slurm, id_: str, **wanted: object) -> Standing:
    """The last run of a job, as soon as it is said to be so."""

    def is_so() -> Standing | None:
        found = runs(slurm, id_)
        return found[-1] if found and all(getattr(found[-1], k) == v for k, v in wanted.items()) else None

    standing = await eventually(is_so, timeout_s=100)
    assert isinstance(standing, Standing)
    return standing


OPTIONS = [
    (Resources(cpus=2), "CPUs/Task=2"),
    (Resources(memory_bytes=300 * 2**20 + 1), "MinMemoryNode=301M"),
    (Resources(memory_per_cpu_bytes=2**20), "MinMemoryCPU=1M"),
    (Resources(gpus=2), "TresPerNode=gres:gpu:2"),
    (Resources(gpus=1, gpu_type="a100"), "TresPerNode=gres:gpu:a100:1"),
    (Resources(walltime_s=90061), "TimeLimit=1-01:02:00"),
    (Resources(walltime_s=1), "TimeLimit=00:01:00"),
    (Resources(nodes=2), "NumNodes=2-2"),
    (Resources(tasks=3), "NumTasks=3"),
    (Resources(partition="short"), "Partition=short"),
    (Resources(partition="debug,short"), "Partition=debug,short"),
    (Resources(account="other"), "Account=other"),
    (Resources(qos="brief", walltime_s=60), "QOS=brief"),
    (Resources(reservation="booked"), "Reservation=booked"),
    (Resources(constraint="fast&n1"), "Features=fast&n1"),
    (Resources(constraint="[n1|n2]"), "Features=[n1|n2]"),
    (Resources(exclusive=True), "OverSubscribe=NO"),
    (Resources(licenses=("ansys:2",)), "Licenses=ansys:2"),
    (Resources(mail_to="me@example.com", mail_on=("begin", "fail")), "MailUser=me@example.com"),
    (Resources(mail_on=("begin", "end", "fail")), "MailType=BEGIN,END,FAIL"),
    (Resources(directives=("--nice=100",)), "Nice=100"),
    (Resources(directives=("--comment=a,b",)), "Comment=a,b"),
]


@pytest.fixture(scope="module")
def _reservation(slurm: Slurm) -> None:
    # Later than any job of today may run, in partitions of two days at most: else it is refused while n1 has one.
    slurm.say(
        "scontrol", "create", "reservation", "ReservationName=booked", "StartTime=now+3days",
        "Duration=60", "Users=root", "Nodes=n1",
    )  # fmt: skip


@pytest.mark.parametrize(("resources", "shown"), OPTIONS, ids=[shown for _, shown in OPTIONS])
@pytest.mark.usefixtures("_reservation")
def test_what_is_asked_for_reaches_the_job(slurm: Slurm, resources: Resources, shown: str) -> None:
    wanted = order(slurm, is_held=True, resources=resources)

    id_ = accepted(slurm, wanted)

    told = slurm.say("scontrol", "show", "job", id_).replace("\n", " ").split()
    assert shown in told
    assert {f"JobName={wanted.name}", "Requeue=0", f"WorkDir={slurm.directory}"} <= set(told)
    slurm.say("scancel", id_)


def test_gpus_are_those_of_a_node(slurm: Slurm) -> None:
    id_ = accepted(slurm, order(slurm, is_held=True, resources=Resources(nodes=2, gpus=2)))

    told = slurm.say("scontrol", "show", "job", id_).split()

    (asked,) = (word for word in told if word.startswith("TRES="))
    assert {"node=2", "gres/gpu=4"} <= set(asked.removeprefix("TRES=").split(","))
    slurm.say("scancel", id_)


async def test_held_job_waits_until_it_is_released(slurm: Slurm) -> None:
    id_ = accepted(slurm, order(slurm, is_held=True))
    held = await seen_as(slurm, id_, phase=Phase.HELD)

    answer = slurm.answer(DIALECT.ask(Wish.RELEASE, [id_]) or pytest.fail("no command"))

    assert DIALECT.complied(answer) is Compliance.DONE
    assert held.reason == "JobHeldUser"
    assert held.has_run is False
    await seen_as(slurm, id_, cause=Cause.COMPLETED)


async def test_script_knows_its_id_and_gets_nothing_of_the_submitter(slurm: Slurm) -> None:
    said = f'"{DIALECT.id_word}" "{DIALECT.restarts_word}" "{DIALECT.index_word}"'
    body = f'echo {said} "$SLURM_EXPORT_ENV" "<$LEAK$SLURM_LEAK>"; echo "$HOME"; ulimit -n\n'
    leaks = {"LEAK": "1", "SLURM_LEAK": "1", "SLURM_RESTART_COUNT": "9", "SBATCH_PARTITION": "nowhere",
             "SBATCH_REQUEUE": "1", "SBATCH_EXPORT": "ALL", "SBATCH_JOB_NAME": "other"}  # fmt: skip
    wanted = order(slurm, body)
    command = DIALECT.submit(str(write(slurm, wanted)), wanted)
    limited = Command(("sh", "-c", 'ulimit -Sn 321 && exec "$@"', "sh", *command.argv))

    submission = DIALECT.submitted(slurm.answer(limited, env=leaks))

    assert isinstance(submission, Submitted)
    await seen_as(slurm, submission.id, cause=Cause.COMPLETED)
    output = (slurm.directory / f"{wanted.name}.out").read_text().splitlines()
    assert output[:-1] == [f"{submission.id} 0 0 ALL <>", pwd.getpwuid(os.getuid()).pw_dir]
    assert output[-1] != "321"
    assert "Requeue=0" in slurm.say("scontrol", "show", "job", submission.id)


async def test_elements_know_themselves_as_they_are_listed(slurm: Slurm) -> None:
    body = f'echo "{DIALECT.id_word}" "{DIALECT.index_word}"\n'
    wanted = order(slurm, body, elements=3)

    id_ = accepted(slurm, wanted)

    for index in range(3):
        await seen_as(slurm, f"{id_}_{index}", cause=Cause.COMPLETED)
    output = (slurm.directory / f"{wanted.name}.out").read_text().splitlines()
    assert sorted(output) == [f"{id_}_{index} {index}" for index in range(3)]
    assert {job.id for job in find(slurm, wanted.name).jobs} == {f"{id_}_{index}" for index in range(3)}


async def test_paths_with_blanks_and_signs_are_taken_as_they_are(slurm: Slurm) -> None:
    folder = slurm.directory / "a %j #b 'c' ö; d"
    folder.mkdir()
    wanted = order(slurm, "pwd\n", cwd=str(folder), stdout=f"{folder}/out %A", stderr=f"{folder}/err")

    id_ = accepted(slurm, wanted)

    await seen_as(slurm, id_, cause=Cause.COMPLETED)
    assert (folder / "out %A").read_text() == f"{folder}\n"


def test_array_is_as_long_as_the_cap_and_no_longer(slurm: Slurm) -> None:
    cap = DIALECT.fitted([slurm.answer(command) for command in DIALECT.probe()]).array_cap
    assert cap is not None

    longest = submit(slurm, order(slurm, elements=cap, is_held=True))
    longer = submit(slurm, order(slurm, elements=cap + 1, is_held=True))

    assert cap == MAX_ARRAY_SIZE
    assert isinstance(longest, Submitted)
    assert isinstance(longer, Refused)
    assert "Invalid job array specification" in longer.words
    slurm.say("scancel", longest.id)


REFUSED = [
    (Resources(partition="nowhere"), "Invalid partition name specified"),
    (Resources(partition="short", walltime_s=7200), "Requested time limit is invalid"),
    (Resources(memory_bytes=2**40), "Requested node configuration is not available"),
    (Resources(nodes=3), "Node count specification invalid"),
    (Resources(tasks=400), "More processors requested than permitted"),
    (Resources(account="nobody"), "Invalid account or account/partition combination specified"),
    (Resources(qos="nothing"), "Invalid qos specification"),
    (Resources(reservation="never"), "Requested reservation is invalid"),
    (Resources(constraint="never"), "Invalid feature specification"),
    (Resources(licenses=("never:1",)), "Invalid license specification"),
    (Resources(gpus=1, gpu_type="never"), "Requested node configuration is not available"),
    (Resources(directives=("--nonsense",)), "unrecognized option '--nonsense'"),
    (Resources(directives=("--signal=NEVER",)), "Invalid --signal specification"),
    (Resources(directives=("--ntasks=0",)), 'Invalid numeric value "0" for --ntasks'),
    (Resources(memory_bytes=2**20, directives=("--mem-per-cpu=1",)), "are mutually exclusive"),
]


@pytest.mark.parametrize(("resources", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_slurm_will_not_have_is_refused_in_its_words(
    slurm: Slurm, resources: Resources, words: str
) -> None:
    submission = submit(slurm, order(slurm, resources=resources))

    assert isinstance(submission, Refused)
    assert words in submission.words


async def test_held_submission_is_looked_at_only_when_it_is_released(slurm: Slurm) -> None:
    """What SLURM would refuse it takes if it is held; it fails then, and has never run."""
    id_ = accepted(slurm, order(slurm, is_held=True, resources=Resources(memory_bytes=2**40)))

    slurm.say("scontrol", "release", id_)

    standing = await seen_as(slurm, id_, reason="BadConstraints")
    assert standing.has_run is False
    slurm.say("scancel", id_)


def test_limit_on_submitted_jobs_passes_by_itself(slurm: Slurm) -> None:
    tight = Resources(qos="tight")
    first = accepted(slurm, order(slurm, is_held=True, resources=tight))

    second = submit(slurm, order(slurm, is_held=True, resources=tight))
    slurm.say("scancel", first)

    assert isinstance(second, Busy)
    assert "QOSMaxSubmitJobPerUserLimit" in second.words
    slurm.say("scancel", accepted(slurm, order(slurm, is_held=True, resources=tight)))


async def test_submission_that_timed_out_is_found_by_its_name(slurm: Slurm) -> None:
    wanted = order(slurm)
    slurm.freeze("slurmctld")
    try:
        submission = submit(slurm, wanted)
    finally:
        slurm.thaw("slurmctld")

    assert isinstance(submission, Doubtful)
    found = await eventually(lambda: find(slurm, wanted.name).jobs)
    assert [job.name for job in found] == [wanted.name]
    await seen_as(slurm, found[0].id, cause=Cause.COMPLETED)


def test_name_that_was_never_submitted_is_not_found(slurm: Slurm) -> None:
    listing = find(slurm, "jm-never", "jm-neither")

    assert listing.jobs == ()
    assert listing.complete


def test_jobs_of_several_names_are_found_at_once(slurm: Slurm) -> None:
    orders = [order(slurm, is_held=True) for _ in range(2)]
    ids = {accepted(slurm, one) for one in orders}

    listing = find(slurm, *(one.name for one in orders))

    assert listing.complete
    assert {job.id for job in listing.jobs} == ids
    slurm.say("scancel", *ids)


def test_without_a_controller_nothing_is_known(slurm: Slurm, zoo: Zoo) -> None:
    wanted = order(slurm)
    wish = DIALECT.ask(Wish.CANCEL, [zoo.held])
    assert wish is not None
    slurm.stop_slurmctld()
    try:
        with ThreadPoolExecutor(4) as pool:
            submission = pool.submit(submit, slurm, wanted)
            listing = pool.submit(look, slurm, [zoo.held])
            answer = pool.submit(slurm.answer, wish)
            partitions = pool.submit(slurm.answer, DIALECT.partitions())
    finally:
        slurm.start_slurmctld()

    assert isinstance(submission.result(), Doubtful)
    assert not listing.result().complete
    assert "Unable to contact slurm controller" in listing.result().why
    assert DIALECT.complied(answer.result()) is Compliance.DOUBTFUL
    with pytest.raises(NotUnderstood, match="Unable to contact slurm controller"):
        DIALECT.read_partitions(partitions.result())
    assert find(slurm, wanted.name).jobs == ()


def test_without_accounting_daemon_the_queue_still_tells_who_is_there(slurm: Slurm, zoo: Zoo) -> None:
    slurm.stop_slurmdbd()
    try:
        listing = look(slurm, [zoo.held])
    finally:
        slurm.start_slurmdbd()

    assert not listing.complete
    assert "sacct: " in listing.why
    assert zoo.held in {job.id for job in listing.jobs}


def test_without_accounting_what_is_missing_is_not_absent(slurm_without_accounting: Slurm) -> None:
    cluster = slurm_without_accounting
    late = order(cluster, resources=Resources(partition="short", walltime_s=7200))

    id_ = accepted(cluster, late)
    listing = find(cluster, late.name)

    assert not listing.complete
    assert "Slurm accounting storage is disabled" in listing.why
    assert [(job.id, job.phase, job.has_run) for job in listing.jobs] == [(id_, Phase.PENDING, False)]
    # The one is said at first, the other once the scheduler came by.
    assert listing.jobs[0].reason in {"PartitionConfig", "PartitionTimeLimit"}


async def test_ends_are_told_with_code_and_signal(slurm: Slurm, zoo: Zoo) -> None:
    completed = await seen_as(slurm, zoo.completed, cause=Cause.COMPLETED, exit_code=0)
    failed = await seen_as(slurm, zoo.failed, cause=Cause.FAILED, exit_code=7)
    killed = await seen_as(slurm, zoo.killed, cause=Cause.FAILED, signal=9)

    assert completed.phase is failed.phase is killed.phase is Phase.ENDED
    assert completed.has_run is None
    assert killed.exit_code is None
    assert failed.started_at is not None
    assert failed.ended_at is not None
    assert failed.nodes in NODES


async def test_accounting_tells_what_a_run_used(slurm: Slurm) -> None:
    body = "head -c 300000000 /dev/zero | tail -c 200000000 | sleep 3\n"
    id_ = accepted(slurm, order(slurm, body, resources=Resources(memory_bytes=2**30)))

    def is_told() -> Standing | None:
        last = runs(slurm, id_)[-1]
        return last if last.cause is Cause.COMPLETED and last.peak_memory_bytes else None

    standing = await eventually(is_told)

    assert standing.peak_memory_bytes > 100_000_000
    assert standing.cpu_s is not None


async def test_cancelled_jobs(slurm: Slurm, zoo: Zoo) -> None:
    await seen_as(slurm, zoo.cancelled, phase=Phase.RUNNING)
    wish = DIALECT.ask(Wish.CANCEL, [zoo.cancelled, zoo.cancelled_waiting])
    assert wish is not None

    assert DIALECT.complied(slurm.answer(wish)) is Compliance.DONE

    running = await seen_as(slurm, zoo.cancelled, cause=Cause.CANCELLED)
    waiting = await seen_as(slurm, zoo.cancelled_waiting, cause=Cause.CANCELLED)
    assert running.has_run is None
    assert running.exit_code is None
    assert waiting.has_run is False
    assert waiting.started_at is None


async def test_job_that_waits_says_why_and_until_when(slurm: Slurm, zoo: Zoo) -> None:
    standing = await seen_as(slurm, zoo.later, phase=Phase.PENDING)

    assert standing.reason == "BeginTime"
    assert standing.expected_start is not None
    assert standing.started_at is None
    assert standing.restarts == 0


async def test_script_that_could_not_be_started_was_not_ended_by_a_signal(slurm: Slurm, zoo: Zoo) -> None:
    """SLURM says `0:53`. (Without its working directory a script is started in /tmp, and nothing is said.)"""
    standing = await seen_as(slurm, zoo.no_output, cause=Cause.FAILED)

    assert (standing.exit_code, standing.signal) == (None, None)
    assert standing.reason == "JobLaunchFailure"


def test_refused_submission_leaves_a_job_that_never_runs(slurm: Slurm, zoo: Zoo) -> None:
    found = find(slurm, zoo.unfit).jobs

    assert [(job.cause, job.has_run, job.exit_code, job.reason) for job in found] == [
        (Cause.FAILED, False, None, "BadConstraints")
    ]


async def test_elements_of_an_array_each_have_their_own_end(slurm: Slurm, zoo: Zoo) -> None:
    """An element that is cancelled while it waits vanishes at once, and accounting never knew it, as a rule.

    On a busy machine it was still listed once.
    """

    def elements() -> dict[str, Standing]:
        listing = look(slurm, [zoo.array])
        assert listing.complete
        return {job.id: job for job in listing.jobs if job.id.startswith(f"{zoo.array}_")}

    running, waiting, vanishing = (f"{zoo.array}_{index}" for index in (0, 5, 3))
    await seen_as(slurm, running, phase=Phase.RUNNING)
    # The scheduler says why others wait when it comes by again.
    await seen_as(slurm, waiting, reason="JobArrayTaskLimit")
    before = elements()
    wish = DIALECT.ask(Wish.CANCEL, [running, vanishing])
    assert wish is not None

    assert DIALECT.complied(slurm.answer(wish)) is Compliance.DONE

    await seen_as(slurm, running, cause=Cause.CANCELLED)
    assert len(before) == 6
    assert before[waiting].has_run is False
    left = elements().get(vanishing)
    assert left is None or (left.phase, left.cause) == (Phase.ENDED, Cause.CANCELLED), left
    slurm.say("scancel", zoo.array)
    await eventually(lambda: all(job.phase is Phase.ENDED for job in elements().values()))


async def test_requeued_job_is_told_run_by_run(slurm: Slurm) -> None:
    """Only an operator can do that to ours, who has to allow it first."""
    id_ = accepted(slurm, order(slurm, SLEEP), may_requeue=True)
    await seen_as(slurm, id_, phase=Phase.RUNNING)

    slurm.say("scontrol", "requeue", id_)

    waiting = await seen_as(slurm, id_, phase=Phase.PENDING)
    assert waiting.restarts == 1
    former = await eventually(lambda: runs(slurm, id_)[:-1])
    assert [(run.cause, run.restarts, run.phase) for run in former] == [(Cause.REQUEUED, 0, Phase.ENDED)]
    slurm.say("scancel", id_)
    ended = await seen_as(slurm, id_, cause=Cause.CANCELLED)
    assert ended.restarts == 1
    assert ended.has_run is None


async def test_job_that_is_requeued_to_be_held_is_held(slurm: Slurm) -> None:
    id_ = accepted(slurm, order(slurm, SLEEP), may_requeue=True)
    await seen_as(slurm, id_, phase=Phase.RUNNING)

    slurm.say("scontrol", "requeuehold", id_)

    held = await seen_as(slurm, id_, phase=Phase.HELD)
    assert held.reason == "job requeued in held state"
    slurm.say("scancel", id_)


async def test_ours_are_not_requeued(slurm: Slurm) -> None:
    id_ = accepted(slurm, order(slurm, SLEEP))
    await seen_as(slurm, id_, phase=Phase.RUNNING)

    done = slurm.run(["scontrol", "requeue", id_])

    assert "Requested operation is presently disabled" in done.stderr
    slurm.say("scancel", id_)


@pytest.mark.parametrize("may_requeue", [True, False])
async def test_preempted_job(slurm: Slurm, *, may_requeue: bool) -> None:
    """One that may not be requeued is cancelled instead; its cause is told all the same."""
    low = order(slurm, SLEEP, resources=Resources(partition="idle", tasks=4))
    id_ = accepted(slurm, low, may_requeue=may_requeue)
    await seen_as(slurm, id_, phase=Phase.RUNNING)

    urgent = accepted(slurm, order(slurm, resources=Resources(partition="urgent", tasks=4)))

    await seen_as(slurm, urgent, cause=Cause.COMPLETED)
    run = await eventually(lambda: [job for job in runs(slurm, id_) if job.cause is Cause.PREEMPTED])
    assert [job.restarts for job in run] == [0]
    slurm.run(["scancel", id_])


async def test_node_that_fails(slurm: Slurm) -> None:
    id_ = accepted(slurm, order(slurm, SLEEP, resources=Resources(constraint="n2")))
    await seen_as(slurm, id_, phase=Phase.RUNNING)
    slurm.stop_slurmd("n2")
    try:
        slurm.say("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=gone")
        standing = await seen_as(slurm, id_, cause=Cause.NODE_FAIL)
        nodes = {node.name: node.is_up for node in DIALECT.read_nodes(slurm.answer(DIALECT.nodes()))}
    finally:
        slurm.start_slurmd("n2")
        # Refused if the node has come back by itself already.
        slurm.run(["scontrol", "update", "NodeName=n2", "State=RESUME"])

    assert (standing.exit_code, standing.signal) == (None, None)
    assert nodes["n2"] is False


async def test_suspend_resume_and_hold(slurm: Slurm) -> None:
    id_ = accepted(slurm, order(slurm, SLEEP))
    await seen_as(slurm, id_, phase=Phase.RUNNING)

    suspended = DIALECT.complied(slurm.answer(DIALECT.ask(Wish.SUSPEND, [id_]) or pytest.fail("none")))
    await seen_as(slurm, id_, phase=Phase.SUSPENDED)
    resumed = DIALECT.complied(slurm.answer(DIALECT.ask(Wish.RESUME, [id_]) or pytest.fail("none")))
    await seen_as(slurm, id_, phase=Phase.RUNNING)

    assert (suspended, resumed) == (Compliance.DONE, Compliance.DONE)
    slurm.say("scancel", id_)


def test_wishes_about_jobs_that_are_gone_or_not_ours(slurm: Slurm) -> None:
    stranger = ("setpriv", "--reuid=65534", "--clear-groups")
    held = accepted(slurm, order(slurm, is_held=True))

    def complied(command: Command | None, *before: str) -> Compliance:
        assert command is not None
        return DIALECT.complied(slurm.answer(Command((*before, *command.argv))))

    assert complied(DIALECT.ask(Wish.HOLD, ["999999"])) is Compliance.GONE
    assert complied(DIALECT.prioritise(-5, ["999999"])) is Compliance.GONE
    assert complied(DIALECT.prioritise(-5, [held]), *stranger) is Compliance.REFUSED
    assert complied(DIALECT.ask(Wish.CANCEL, [held]), *stranger) is Compliance.REFUSED
    assert complied(DIALECT.ask(Wish.SUSPEND, [held])) is Compliance.REFUSED
    # The last, because it releases the job.
    assert complied(DIALECT.prioritise(-5, [held])) is Compliance.DONE
    assert "Nice=5" in slurm.say("scontrol", "show", "job", held).split()
    slurm.say("scancel", held)


def test_partitions_are_listed(slurm: Slurm) -> None:
    partitions = {each.name: each for each in DIALECT.read_partitions(slurm.answer(DIALECT.partitions()))}

    assert set(partitions) == {"debug", "short", "idle", "urgent", "shut"}
    assert partitions["debug"] == Partition("debug", True, True, 172800.0, 2, 8)
    assert partitions["short"].max_walltime_s == 1800.0
    assert partitions["idle"].max_walltime_s is None
    assert partitions["shut"].is_up is False


def test_nodes_are_listed_once_with_all_their_partitions(slurm: Slurm) -> None:
    nodes = DIALECT.read_nodes(slurm.answer(DIALECT.nodes()))

    assert [node.name for node in nodes] == list(NODES)
    assert nodes[0].partitions == ("debug", "short")
    assert (nodes[0].cpus, nodes[0].memory_bytes, nodes[0].gpus) == (4, MEMORY_MB * 2**20, 2)


def test_everything_is_what_has_not_ended(slurm: Slurm, zoo: Zoo) -> None:
    listing = DIALECT.read_everything(slurm.answer(DIALECT.everything()))

    assert listing.complete
    assert zoo.held in {job.id for job in listing.jobs}
    assert all(job.phase is not Phase.ENDED for job in listing.jobs)


def test_version_is_told(slurm: Slurm) -> None:
    version = DIALECT.read_version(slurm.answer(DIALECT.version()))

    assert version is not None
    assert version.startswith("slurm")


async def test_ends_by_time(slurm: Slurm, zoo: Zoo) -> None:
    """The last one: these need a minute."""
    timeout = await seen_as(slurm, zoo.timeout, cause=Cause.TIMEOUT)
    deadline = await seen_as(slurm, zoo.deadline, cause=Cause.DEADLINE)

    assert timeout.has_run is None
    assert timeout.exit_code is None
    assert deadline.has_run is False
    assert deadline.exit_code is None
