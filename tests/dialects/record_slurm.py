"""Records what a real SLURM answers: `python -m tests.dialects.record_slurm`. The tests read tests/data/slurm."""

from __future__ import annotations

import asyncio
import json
import shlex
from dataclasses import fields
from pathlib import Path

from jobmgr.dialects.dialect import Answer, Cause, Command, Phase, Wish
from jobmgr.domain.resources import Resources
from tests.dialects.slurm_jobs import DIALECT, SLEEP, accepted, fill_zoo, order, runs, write
from tests.patience import eventually
from tests.slurm import Slurm, running_slurm

FOLDER = Path(__file__).parent.parent / "data" / "slurm"
_CONFIG = ("MaxArraySize", "MaxJobCount", "SchedulerParameters", "SLURM_VERSION")
_REFUSED = {
    "partition": Resources(partition="nowhere"),
    "walltime": Resources(partition="short", walltime_s=7200),
    "memory": Resources(memory_bytes=2**40),
    "nodes": Resources(nodes=3),
    "cpus": Resources(tasks=400),
    "account": Resources(account="nobody"),
    "qos": Resources(qos="nothing"),
    "reservation": Resources(reservation="never"),
    "constraint": Resources(constraint="never"),
    "licenses": Resources(licenses=("never:1",)),
    "option": Resources(directives=("--nonsense",)),
    "value": Resources(directives=("--signal=NEVER",)),
    "combination": Resources(memory_bytes=2**20, directives=("--mem-per-cpu=1",)),
}


def _shown(command: Command) -> str:
    """What a user would type: without the shell that tidies the environment."""
    return " ".join(command.argv[4:] if len(command.argv) > 4 else command.argv)


class _Recorder:
    def __init__(self, slurm: Slurm) -> None:
        self._slurm = slurm
        self._version = slurm.say("sbatch", "--version").strip()

    def record(
        self, name: str, command: Command | None, prefix: tuple[str, ...] = (), shown: str = ""
    ) -> Answer:
        assert command is not None
        answer = self._slurm.answer(Command((*prefix, *command.argv), command.stdin))
        kept = {
            "version": self._version,
            "command": shown or " ".join([*prefix, _shown(command)]),
            "exit_code": answer.exit_code,
            "stdout": answer.stdout,
            "stderr": answer.stderr,
        }
        text = json.dumps(kept, indent=1, ensure_ascii=True).replace(str(self._slurm.directory), "/cluster")
        (FOLDER / f"{name}.json").write_text(text + "\n")
        return answer

    def record_config(self) -> None:
        """Only what is read of it: the rest tells more about the machine than about SLURM."""
        (command,) = DIALECT.probe()
        chosen = f"grep -E '^({'|'.join(_CONFIG)}) '"
        filtered = Command(("sh", "-c", f"{shlex.join(command.argv)} | {chosen}"))
        self.record("config", filtered, shown=f"{_shown(command)} | {chosen}")

    def look(self, name: str, *ids: str) -> None:
        queue, accounting = DIALECT.look(ids)
        self.record(f"{name}-squeue", queue)
        self.record(f"{name}-sacct", accounting)


def _submissions(slurm: Slurm, recorder: _Recorder) -> None:
    for name, resources in _REFUSED.items():
        wanted = order(slurm, resources=resources)
        recorder.record(f"refused-{name}", DIALECT.submit(str(write(slurm, wanted)), wanted))
    tight = order(slurm, is_held=True, resources=Resources(qos="tight"))
    path = str(write(slurm, tight))
    recorder.record("submitted", DIALECT.submit(path, tight))
    recorder.record("busy-submit-limit", DIALECT.submit(path, tight))


def _cluster(recorder: _Recorder, ended: str, held: str) -> None:
    recorder.record("partitions", DIALECT.partitions())
    recorder.record("nodes", DIALECT.nodes())
    recorder.record_config()
    recorder.record("version", DIALECT.version())
    stranger = ("setpriv", "--reuid=65534", "--clear-groups")
    for name, wish, id_, prefix in (
        ("hold-unknown", Wish.HOLD, "999999", ()),
        ("hold-ended", Wish.HOLD, ended, ()),
        ("hold-done", Wish.HOLD, held, ()),
        ("hold-stranger", Wish.HOLD, held, stranger),
        ("suspend-pending", Wish.SUSPEND, held, ()),
        ("suspend-unknown", Wish.SUSPEND, "999999", ()),
        ("cancel-stranger", Wish.CANCEL, held, stranger),
        ("cancel-unknown", Wish.CANCEL, "999999", ()),
        ("cancel-ended", Wish.CANCEL, ended, ()),
        ("cancel-nonsense", Wish.CANCEL, "nonsense", ()),
    ):
        recorder.record(name, DIALECT.ask(wish, [id_]), prefix)


async def _jobs(slurm: Slurm, recorder: _Recorder) -> None:
    async def until(id_: str, **wanted: object) -> None:
        await eventually(
            lambda: any(all(getattr(run, k) == v for k, v in wanted.items()) for run in runs(slurm, id_)),
            timeout_s=100,
        )

    zoo = fill_zoo(slurm)
    zoo_ids = {field.name: getattr(zoo, field.name) for field in fields(zoo) if field.name != "unfit"}
    requeued = accepted(slurm, order(slurm, SLEEP), may_requeue=True)
    nameless = accepted(slurm, order(slurm, SLEEP), may_requeue=True)
    for id_ in (requeued, nameless, f"{zoo.array}_0", zoo.cancelled):
        await until(id_, phase=Phase.RUNNING)
    low = accepted(
        slurm, order(slurm, SLEEP, resources=Resources(partition="idle", tasks=4)), may_requeue=True
    )
    await until(low, phase=Phase.RUNNING)
    accepted(slurm, order(slurm, resources=Resources(partition="urgent", tasks=4)))
    slurm.say("scontrol", "requeuehold", requeued)
    slurm.say("scontrol", "requeue", nameless)
    await until(nameless, cause=Cause.REQUEUED)
    await until(low, cause=Cause.PREEMPTED)
    slurm.say("scancel", nameless, zoo.cancelled, zoo.cancelled_waiting, f"{zoo.array}_0", f"{zoo.array}_3")
    await until(f"{zoo.array}_0", cause=Cause.CANCELLED)
    await until(f"{zoo.array}_1", phase=Phase.RUNNING)
    slurm.say("scontrol", "suspend", f"{zoo.array}_1")
    lost = accepted(slurm, order(slurm, SLEEP, resources=Resources(constraint="n2")))
    await until(lost, phase=Phase.RUNNING)
    slurm.stop_slurmd("n2")
    slurm.say("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=gone")
    await until(lost, cause=Cause.NODE_FAIL)
    _cluster(recorder, zoo.completed, zoo.held)
    _submissions(slurm, recorder)
    await until(zoo.timeout, cause=Cause.TIMEOUT)
    await until(zoo.deadline, cause=Cause.DEADLINE)
    recorder.look("all", *zoo_ids.values(), requeued, nameless, low, lost)
    recorder.record("everything", DIALECT.everything())
    (FOLDER / "ids.json").write_text(
        json.dumps(
            {
                **zoo_ids,
                "requeued": requeued, "nameless": nameless, "preempted": low, "node_fail": lost,
            }, indent=1,
        )
        + "\n"
    )  # fmt: skip


def _silence(slurm: Slurm, recorder: _Recorder) -> None:
    wanted = order(slurm)
    submit = DIALECT.submit(str(write(slurm, wanted)), wanted)
    slurm.freeze("slurmctld")
    recorder.record("frozen-sbatch", submit)
    slurm.thaw("slurmctld")
    slurm.stop_slurmdbd()
    recorder.record("no-slurmdbd-sacct", DIALECT.look(["1"])[1])
    slurm.stop_slurmctld()
    recorder.record("no-slurmctld-sbatch", submit)
    recorder.record("no-slurmctld-squeue", DIALECT.look(["1"])[0])
    recorder.record("no-slurmctld-scancel", DIALECT.ask(Wish.CANCEL, ["1"]))
    recorder.record("no-slurmctld-hold", DIALECT.ask(Wish.HOLD, ["1"]))


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with running_slurm(has_accounting=True) as slurm:
        recorder = _Recorder(slurm)
        asyncio.run(_jobs(slurm, recorder))
        _silence(slurm, recorder)
    with running_slurm(has_accounting=False) as slurm:
        recorder = _Recorder(slurm)
        recorder.look("no-accounting", accepted(slurm, order(slurm, is_held=True)))


if __name__ == "__main__":
    main()
