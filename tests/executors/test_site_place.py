"""The directories of attempts at a site, through a real shell: what is made, read, voided and settled there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import OtherDirectory, SiteUnreachable
from jobmgr.executors import gate
from jobmgr.executors.place import Files, Place, Placed, Stock
from jobmgr.executors.transcript import Heard, NoPlace, NotAsked, NotPlaced, PlacedForOther
from jobmgr.transports.local import LocalTransport
from tests.executors.test_verdict import RUN, VOID, record

TOKEN = "a" * 32
PLACE = "job-1/1"


@pytest_asyncio.fixture(params=[name for name in ("dash", "bash") if shutil.which(name)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(str(shutil.which(request.param)))
    transport = LocalTransport({**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    place = Place(transport, str(tmp_path / "it's a work directory"))
    await place.make_roots()
    yield place
    await transport.close()


NAME = f"jm-{TOKEN}"
SIGNED = Files(TOKEN, name=NAME)


async def hand_in(place: Place, stock: Stock, *argv: str) -> Heard:
    """What came of handing in one parcel."""
    (heard,) = await place.submit([(stock, Command(argv))], 10, 30.0)
    return heard


async def handed(place: Place, *argv: str, script: str = "#!/bin/sh\n", token: str = TOKEN) -> Heard:
    """What came of handing in one attempt."""
    return await hand_in(place, single(place, PLACE, script=script, token=token), *argv)


def single(place: Place, where: str, script: str = "#!/bin/sh\n", token: str = TOKEN) -> Stock:
    attempt = Placed(where, token, f"jm-{token}")
    return Stock((attempt,), place.control(where), place.run(where), script)


async def submit(place: Place, *argv: str, script: str = "#!/bin/sh\n") -> str:
    return said(await handed(place, *argv, script=script))


def said(heard: Heard) -> str:
    assert isinstance(heard, Answer)
    assert heard.exit_code == 0, heard
    return heard.stdout


async def look(place: Place) -> Files:
    return (await place.look([PLACE]))[PLACE]


def write(place: Place, name: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (Path(place.control(PLACE)) / name).write_text(text)


def read(path: str) -> tuple[str, int, int]:
    """What is in a file, who may do what with it, and when it was written."""
    found = Path(path).stat()
    return Path(path).read_text(), stat.S_IMODE(found.st_mode), found.st_mtime_ns


async def test_token_of_a_job_lies_beside_its_script_for_its_user_only(place: Place) -> None:
    stock = single(place, PLACE)
    stock = replace(stock, attempts=(replace(stock.attempts[0], job_token="jmj_job-1"),))

    await hand_in(place, stock, "true")

    assert place.job_token(PLACE) == f"{place.control(PLACE)}/job-token"
    assert read(place.job_token(PLACE))[:2] == ("jmj_job-1\n", 0o600)


async def test_each_element_has_the_token_of_its_job_which_stays_as_it_is(place: Place) -> None:
    attempts = tuple(
        Placed(f"job-{index}/1", f"{index}" * 32, "jm-array", index, job_token=f"jmj_job-{index}")
        for index in (1, 2)
    )
    stock = Stock(attempts, place.array("array"), place.array("array"), "#!/bin/sh\n", ("one", "two"))
    await hand_in(place, stock, "true")
    files = [place.job_token(one.place) for one in attempts]
    before = [read(file) for file in files]

    # After a doubt, when a run may be reading it.
    await hand_in(place, stock, "true")

    assert [text for text, *_ in before] == ["jmj_job-1\n", "jmj_job-2\n"]
    assert [read(file) for file in files] == before


async def test_script_is_stored_with_its_token_before_it_is_handed_in(place: Place) -> None:
    told = await submit(
        place, "sh", "-c", 'cat "$1"; pwd', "sh", place.script(place.control(PLACE)), script="echo it's\n"
    )
    assert told == f"echo it's\n{place.run(PLACE)}"
    gate.check_token(place.control(PLACE), TOKEN)
    assert await look(place) == SIGNED


async def test_what_the_command_answers_comes_back_as_it_is(place: Place) -> None:
    answer = await handed(place, "sh", "-c", "printf '\\377 1'; echo no >&2; exit 153")
    assert answer == Answer(153, "\udcff 1", "no\n")


async def test_nothing_is_handed_in_from_the_directory_of_another_attempt(
    place: Place, tmp_path: Path
) -> None:
    await submit(place, "true")
    assert await handed(place, "touch", str(tmp_path / "ran"), token="b" * 32) == PlacedForOther(TOKEN)
    assert not (tmp_path / "ran").exists()


async def test_without_the_directory_of_all_attempts_nothing_is_made(place: Place, tmp_path: Path) -> None:
    (Path(place.root) / "control").rmdir()
    heard = await handed(place, "touch", str(tmp_path / "ran"))
    assert isinstance(heard, NoPlace)
    assert "control is not there" in heard.words
    assert not (tmp_path / "ran").exists()
    assert not Path(place.control(PLACE)).exists()  # noqa: ASYNC240


async def test_full_disk_is_told_and_nothing_is_handed_in(place: Place, tmp_path: Path) -> None:
    await submit(place, "true")
    Path(place.run(PLACE)).rmdir()  # noqa: ASYNC240
    Path(place.run(PLACE)).write_text("in the way")  # noqa: ASYNC240
    assert isinstance(await handed(place, "touch", str(tmp_path / "ran")), NotPlaced)
    assert not (tmp_path / "ran").exists()


async def test_gate_record_and_unlinked_record_are_read(place: Place) -> None:
    await submit(place, "true")
    write(place, "gate", RUN)
    write(place, "exit.77", " " * 4096)
    assert await look(place) == replace(SIGNED, gate=RUN)
    write(place, "exit.77", json.dumps(record(3)).ljust(4096))
    assert await look(place) == replace(SIGNED, gate=RUN)
    closely = await place.look_closely([PLACE])
    assert closely[PLACE] == replace(SIGNED, gate=RUN, note=record(3))
    assert (await place.settle([(PLACE, "77")]))[PLACE].record == record(3)
    gate_seen, exit_seen = gate.read(place.control(PLACE)), gate.read_exit(place.control(PLACE))
    assert (gate_seen, exit_seen) == (RUN, record(3))


@pytest.mark.parametrize("text", ["", " ", "{", "[]", '{"v": 1}', json.dumps({**RUN, "token": "b"})])
async def test_garbled_gate_decides_nothing(place: Place, text: str) -> None:
    await submit(place, "true")
    write(place, "gate", text)
    files = await look(place)
    assert files.gate is None
    assert files.garbled == "gate"


OTHER = "job-2/1"


@pytest.mark.parametrize(
    "text", ["\t", "\x0c\t\x0c", "x\u2028", json.dumps({**record(3), "ended_at": "yesterday"}), "[" * 5000]
)
async def test_what_a_job_writes_into_its_control_files_is_about_nobody_else(place: Place, text: str) -> None:
    await submit(place, "true")
    assert isinstance(await hand_in(place, single(place, OTHER), "true"), Answer)
    for name in ("gate", "exit"):
        write(place, name, text)

    told = await place.look([PLACE, OTHER])

    assert told[OTHER] == SIGNED
    assert (told[PLACE].gate, told[PLACE].record, told[PLACE].garbled) == (None, None, "gate and exit")


async def test_a_fifo_in_place_of_a_control_file_is_not_waited_for(place: Place) -> None:
    await submit(place, "true")
    os.mkfifo(Path(place.control(PLACE)) / "exit")

    assert await look(place) == replace(SIGNED, garbled="exit")


async def test_void_gate_is_written_once_for_attempts_that_have_none(place: Place) -> None:
    files = (await place.void([(PLACE, TOKEN)]))[PLACE]
    assert files.gate is not None
    assert files.gate["decision"] == gate.VOID
    assert gate.read(place.control(PLACE)) == files.gate
    assert (await place.void([(PLACE, TOKEN)]))[PLACE] == files
    assert sorted(os.listdir(place.control(PLACE))) == ["gate", "token"]


async def test_gate_that_is_decided_is_not_voided(place: Place) -> None:
    await submit(place, "true")
    write(place, "gate", RUN)
    assert (await place.void([(PLACE, TOKEN)]))[PLACE].gate == RUN


async def test_directory_of_another_attempt_is_not_voided(place: Place) -> None:
    await submit(place, "true")
    files = (await place.void([(PLACE, "b" * 32)]))[PLACE]
    assert files == SIGNED
    assert gate.read(place.control(PLACE)) is None


async def test_one_of_a_void_and_many_runs_decides(place: Place) -> None:
    await submit(place, "true")
    voids = [place.void([(PLACE, TOKEN)]) for _ in range(8)]
    gates = [files[PLACE].gate for files in await asyncio.gather(*voids)]
    nonces = {found["nonce"] for found in gates if found is not None}
    assert len(nonces) == 1


async def test_a_thousand_attempts_are_read_by_one_command(place: Place) -> None:
    places = [f"job-{index}/1" for index in range(1000)]
    for name in places[::2]:
        gate.make_with_run(place.control(name), place.run(name), TOKEN)
    told = await place.look(places)
    assert [bool(told[name].token) for name in places] == [True, False] * 500


@pytest.mark.parametrize("name", ["gate", "exit", "token", "submission", "exit.77"])
async def test_large_control_file_keeps_no_other_attempt_waiting(place: Place, name: str) -> None:
    await submit(place, "true")
    assert isinstance(await hand_in(place, single(place, OTHER), "true"), Answer)
    write(place, "gate", RUN)
    write(place, name, "x" * 20 * 1024**2)

    told = await place.look([PLACE, OTHER])
    closely = await place.look_closely([PLACE, OTHER])
    settled = await place.settle([(PLACE, "88")])

    assert told[OTHER] == closely[OTHER] == SIGNED
    assert told[PLACE] == settled[PLACE] == closely[PLACE]
    assert told[PLACE].is_decided
    assert told[PLACE].garbled == {"gate": "gate", "exit": "exit", "token": "gate"}.get(name, "")


async def test_control_file_of_64_kib_is_read(place: Place) -> None:
    await submit(place, "true")
    for name, content in (("gate", RUN), ("exit", record(3))):
        write(place, name, json.dumps(content).ljust(2**16))

    assert await look(place) == replace(SIGNED, gate=RUN, record=record(3))


async def test_look_that_finds_nothing_new_starts_no_process(place: Place, tmp_path: Path) -> None:
    await submit(place, "true")
    for name in ("find", "rm"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name} >>'{tmp_path}/started'\n")
        (tmp_path / "bin" / name).chmod(0o755)
    pending = await look(place)
    (tmp_path / "started").unlink()

    assert (await place.look([PLACE], {PLACE: pending}))[PLACE] is pending

    assert not (tmp_path / "started").exists()


def changed_at(directory: str) -> int:
    return Path(directory).stat().st_mtime_ns


async def test_close_look_writes_into_a_directory_that_has_no_record_and_leaves_nothing(place: Place) -> None:
    await submit(place, "true")
    control = place.control(PLACE)
    os.utime(control, ns=(1, 1))
    before = sorted(os.listdir(control))

    await look(place)
    looked = changed_at(control)
    told = await place.look_closely([PLACE, OTHER])

    assert looked == 1
    assert changed_at(control) > 1
    assert sorted(os.listdir(control)) == before
    assert told == {PLACE: SIGNED, OTHER: Files()}
    assert not Path(place.control(OTHER)).exists()  # noqa: ASYNC240


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
async def test_close_look_does_not_write_into_what_a_job_left_there(
    place: Place, tmp_path: Path, kind: str
) -> None:
    await submit(place, "true")
    left, precious = Path(place.control(PLACE)) / "seen", tmp_path / "precious"
    precious.write_text("a result")
    match kind:
        case "fifo":
            os.mkfifo(left)
        case "link":
            left.symlink_to(precious)
        case _:
            left.mkdir()
            (left / "file").touch()

    told = await place.look_closely([PLACE])

    assert told == {PLACE: SIGNED}
    assert precious.read_text() == "a result"


async def test_close_look_does_not_write_where_there_is_a_record(place: Place) -> None:
    await submit(place, "true")
    write(place, "gate", RUN)
    write(place, "exit", record(3))
    os.utime(place.control(PLACE), ns=(1, 1))

    told = await place.look_closely([PLACE])

    assert told[PLACE] == replace(SIGNED, gate=RUN, record=record(3))
    assert changed_at(place.control(PLACE)) == 1


def array_of(place: Place, *tokens: str) -> Stock:
    attempts = tuple(Placed(f"job-{index}/1", token, "jm-array", index) for index, token in enumerate(tokens))
    home = place.array("array")
    return Stock(attempts, home, home, "#!/bin/sh\n", tuple(f"element {token}\n" for token in tokens))


async def test_array_is_stored_with_whose_its_elements_are(place: Place) -> None:
    stock = array_of(place, "a" * 32, "b" * 32)
    told = said(await hand_in(place, stock, "sh", "-c", "ls; cat 1; pwd"))
    assert told == f"0\n1\nscript\nelement {'b' * 32}\n{place.array('array')}"
    files = await place.look([one.place for one in stock.attempts])
    assert files == {
        "job-0/1": Files("a" * 32, name="jm-array", index=0),
        "job-1/1": Files("b" * 32, name="jm-array", index=1),
    }


async def test_what_runs_may_read_is_not_written_again(place: Place) -> None:
    stock = array_of(place, "a" * 32, "b" * 32)
    await hand_in(place, stock, "true")
    script = Path(place.script(stock.home)).stat()  # noqa: ASYNC240
    await hand_in(place, stock, "true")
    again = Path(place.script(stock.home)).stat()  # noqa: ASYNC240
    assert (again.st_ino, again.st_mtime_ns) == (script.st_ino, script.st_mtime_ns)


async def test_array_goes_without_an_attempt_whose_directory_is_anothers(place: Place) -> None:
    gate.make_with_run(place.control("job-0/1"), place.run("job-0/1"), "c" * 32)
    stock = array_of(place, "a" * 32, "b" * 32)
    assert said(await hand_in(place, stock, "echo", "handed in")) == "handed in"
    told = await place.look([one.place for one in stock.attempts])
    assert told["job-0/1"] == Files("c" * 32)
    assert told["job-1/1"].token == "b" * 32


async def test_array_without_any_attempt_of_its_own_is_not_handed_in(place: Place, tmp_path: Path) -> None:
    for index in range(2):
        gate.make_with_run(place.control(f"job-{index}/1"), place.run(f"job-{index}/1"), "c" * 32)
    stock = array_of(place, "a" * 32, "b" * 32)
    assert await hand_in(place, stock, "touch", str(tmp_path / "ran")) == PlacedForOther("c" * 32)
    assert not (tmp_path / "ran").exists()


def parcels_of(place: Place, *scripts: str) -> list[tuple[Stock, Command]]:
    """Each of one attempt, and handed in by a script of a shell."""
    return [
        (single(place, f"job-{index}/1", token=f"{index:032x}"), Command(("sh", "-c", script)))
        for index, script in enumerate(scripts)
    ]


def marks(place: Place, count: int) -> list[bool]:
    """Which of these attempts are signed."""
    return [Path(place.control(f"job-{index}/1/submission")).exists() for index in range(count)]


async def test_parcels_go_one_after_the_other_each_from_its_own_directory(place: Place) -> None:
    parcels = [*parcels_of(place, *["pwd; echo $0 >&2"] * 5), (array_of(place), Command(("ls",)))]
    array = array_of(place, "a" * 32, "b" * 32)
    attempts = tuple(replace(one, place=f"array-{one.index}/1") for one in array.attempts)
    parcels[-1] = (replace(array, attempts=attempts), Command(("ls",)))

    heard = await place.submit(parcels, 10, 30.0)

    runs = [Answer(0, place.run(f"job-{index}/1"), "sh\n") for index in range(5)]
    assert heard == [*runs, Answer(0, "0\n1\nscript", "")]
    told = await place.look([one.place for stock, _ in parcels for one in stock.attempts])
    assert [files.token for files in told.values()] == [
        *(f"{index:032x}" for index in range(5)),
        "a" * 32,
        "b" * 32,
    ]
    assert not list(Path(place.root).glob("control/*/*/script.*"))  # noqa: ASYNC240


@pytest.mark.parametrize("script", ["echo away >&2; exit 1", "exit 0", "kill -9 $$", "kill -9 $PPID"])
async def test_nobody_is_asked_for_after_who_was_not_taken(place: Place, script: str) -> None:
    """Nothing of those says that it was handed in."""
    heard = await place.submit(parcels_of(place, "echo 1", script, "echo 3", "echo 4"), 10, 30.0)

    assert heard[0] == Answer(0, "1", "")
    assert isinstance(heard[1], Answer)
    assert heard[1].stdout == ""
    assert heard[2:] == [NotAsked(), NotAsked()]
    assert marks(place, 4) == [True, True, False, False]


async def test_who_cannot_be_heard_of_is_in_doubt_and_the_next_is_not_signed(place: Place) -> None:
    """All shells are killed while the second is handed in."""
    heard = await place.submit(parcels_of(place, "echo 1", "echo 2; kill -9 0", "echo 3"), 10, 30.0)

    assert heard == [Answer(0, "1", ""), Answer(None), Answer(None)]
    assert marks(place, 3) == [True, True, False]


async def test_none_is_begun_when_time_is_up(place: Place) -> None:
    # The clock ends while the first takes its time.
    heard = await place.submit(parcels_of(place, "sleep 1; echo 1", "echo 2"), 0, 30.0)

    assert heard == [Answer(0, "1", ""), NotAsked()]
    assert marks(place, 2) == [True, False]


async def test_what_one_says_is_never_the_answer_of_another(place: Place) -> None:
    # As if it were an answer, in both streams; and later, after its own end.
    said = [
        "printf '0 10\\n7000000001'; printf '0 10\\n7000000001' >&2",
        "(sleep 0.3; echo late) & echo now",
        "echo 3",
    ]

    heard = await place.submit(parcels_of(place, *said), 10, 30.0)

    assert heard == [
        Answer(0, "0 10\n7000000001", "0 10\n7000000001"),
        Answer(0, "now\nlate", ""),
        Answer(0, "3", ""),
    ]


async def test_directory_of_another_attempt_keeps_no_other_parcel_back(place: Place) -> None:
    gate.make_with_run(place.control("job-0/1"), place.run("job-0/1"), "c" * 32)

    heard = await place.submit(parcels_of(place, "echo 1", "echo 2"), 10, 30.0)

    assert heard == [PlacedForOther("c" * 32), Answer(0, "2", "")]


async def test_if_one_cannot_be_stored_none_is_handed_in(place: Place) -> None:
    Path(place.run("job-1")).write_text("in the way")  # noqa: ASYNC240

    heard = await place.submit(parcels_of(place, "echo 1", "echo 2", "echo 3"), 10, 30.0)

    assert [isinstance(one, NotPlaced) for one in heard] == [True] * 3
    assert marks(place, 3) == [False] * 3


async def test_only_what_is_new_is_read_of_attempts_that_were_seen(place: Place) -> None:
    await submit(place, "true")
    pending = await look(place)
    assert (await place.look([PLACE], {PLACE: pending}))[PLACE] is pending
    write(place, "gate", RUN)
    running = (await place.look([PLACE], {PLACE: pending}))[PLACE]
    assert running == replace(SIGNED, gate=RUN)
    assert (await place.look([PLACE], {PLACE: running}))[PLACE] is running
    write(place, "exit", record(3))
    assert (await place.look([PLACE], {PLACE: running}))[PLACE] == replace(running, record=record(3))


async def test_many_running_attempts_are_read_in_time(place: Place) -> None:
    """The space of a record is blank while a command runs: no shell may look at each blank again and again."""
    places = [f"job-{index}/1" for index in range(2000)]
    for name in places:
        gate.make_with_run(place.control(name), place.run(name), TOKEN)
        directory = Path(place.control(name))
        (directory / "gate").write_text(json.dumps(RUN))
        (directory / "exit.77").write_text(" " * 4096)
    told = await place.look(places)
    assert all(files.gate == RUN for files in told.values())


async def test_attempt_is_handed_in_as_something_else_only_if_the_former_is_given_up(place: Place) -> None:
    await submit(place, "true")
    whole = Placed(PLACE, TOKEN, "jm-array", 3)
    stock = Stock((whole,), place.array("array"), place.array("array"), "#!/bin/sh\n", ("a=1\n",))

    assert await hand_in(place, stock, "true") == PlacedForOther(f"{NAME} -")
    assert await look(place) == SIGNED

    parted = replace(stock, attempts=(replace(whole, former=NAME),))
    said(await hand_in(place, parted, "true"))
    assert await look(place) == replace(SIGNED, name="jm-array", index=3)


async def test_directory_that_is_not_mounted_says_nothing(place: Place) -> None:
    await submit(place, "true")
    await asyncio.to_thread(Path(place.control("")).rename, f"{place.root}/away")

    for asked in (place.look([PLACE]), place.void([(PLACE, TOKEN)]), place.settle([(PLACE, "77")])):
        with pytest.raises(SiteUnreachable, match="control is not there"):
            await asked


async def test_directory_gets_its_name_once_and_it_is_that_of_a_work_directory_here(place: Place) -> None:
    names = await asyncio.gather(*(place.recognise("") for _ in range(8)))

    assert {await place.make_roots(), *names} == {gate.work_id(place.root)}
    assert len(names[0]) == 32
    assert sorted(os.listdir(place.root)) == ["control", "id", "runs"]
    assert gate.make_roots(place.root) == names[0]


VERBS: dict[str, Callable[[Place, Path], Awaitable[object]]] = {
    "submit": lambda place, ran: handed(place, "touch", str(ran)),
    "look": lambda place, _: look(place),
    "void": lambda place, _: place.void([(PLACE, TOKEN)]),
    "settle": lambda place, _: place.settle([(PLACE, "77")]),
    "missing": lambda place, _: place.missing([(PLACE, ["result"])]),
    "roots": lambda place, _: place.make_roots(),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("is_named", [True, False])
async def test_nothing_is_done_in_another_directory_at_the_same_path(
    place: Place, tmp_path: Path, verb: str, is_named: bool
) -> None:
    own = await place.recognise(await place.make_roots())
    await submit(place, "true")
    root = Path(place.root)
    await asyncio.to_thread(root.rename, tmp_path / "own")
    for name in ("control", "runs"):
        (root / name).mkdir(parents=True)
    if is_named:
        (root / "id").write_text("another")
    before = await asyncio.to_thread(lambda: sorted(root.rglob("*")))

    with pytest.raises(OtherDirectory, match=own):
        await VERBS[verb](place, tmp_path / "ran")

    assert own in place.trouble
    assert not (tmp_path / "ran").exists()
    assert await asyncio.to_thread(lambda: sorted(root.rglob("*"))) == before
    await asyncio.to_thread(shutil.rmtree, root)
    await asyncio.to_thread((tmp_path / "own").rename, root)
    assert (await place.recognise(own), place.trouble) == (own, "")
    assert await look(place) == SIGNED


async def test_what_is_not_mounted_is_not_made_anew(place: Place, tmp_path: Path) -> None:
    own = await place.recognise(await place.make_roots())
    await asyncio.to_thread(Path(place.root).rename, tmp_path / "away")

    with pytest.raises(OtherDirectory, match=own):
        await place.make_roots()

    assert not await asyncio.to_thread(Path(place.root).exists)


async def test_lost_name_is_written_again_as_it_is_said(place: Place) -> None:
    own = await place.make_roots()
    await asyncio.to_thread((Path(place.root) / "id").unlink)
    with pytest.raises(OtherDirectory) as lost:
        await place.recognise(own)
    (remedy,) = re.findall("`(echo .*)`", str(lost.value))

    await asyncio.to_thread(subprocess.run, ["sh", "-c", remedy], check=True)

    assert (await place.recognise(own), place.trouble) == (own, "")


async def test_directory_is_not_known_before_its_name_is_insisted_on(place: Place) -> None:
    assert "not looked at" in place.trouble
    own = await place.recognise("")
    assert "not stored" in place.trouble
    await place.recognise(own)
    assert place.trouble == ""
    assert (await place.recognise(""), place.trouble) == (own, "")
    await asyncio.to_thread((Path(place.root) / "id").write_text, "another")
    with pytest.raises(OtherDirectory):
        await place.recognise("")


async def test_directory_that_is_not_there_gets_no_name(place: Place) -> None:
    await asyncio.to_thread(shutil.rmtree, place.root)

    with pytest.raises(SiteUnreachable, match="`jobmgr site test` makes it"):
        await place.recognise("")

    assert "control is not there" in place.trouble


async def test_missing_files_are_named(place: Place) -> None:
    await submit(place, "true")
    (Path(place.run(PLACE)) / "there is one").write_text("")
    (Path(place.run(PLACE)) / " two\nlines, and a \\n ").write_text("")
    names = ["there is one", "there is\nnone", " two\nlines, and a \\n ", "sub/none", "at job-1/1"]

    told = await place.missing([("job-2/1", names), (PLACE, names), (PLACE, names[:1])])

    assert told == [None, ("there is\nnone", "sub/none", "at job-1/1"), ()]


async def test_files_are_looked_for_only_where_commands_run(place: Place, tmp_path: Path) -> None:
    (tmp_path / "bin" / "sh").unlink()
    (tmp_path / "bin" / "sh").symlink_to("/bin/false")

    with pytest.raises(SiteUnreachable):
        await place.missing([(PLACE, ["x"])])


def test_void_content_is_what_gate_calls_whole() -> None:
    assert gate.is_gate(VOID)
