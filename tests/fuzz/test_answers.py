"""What shells at sites answer, when it is something else: told as trouble, never taken for more than it says."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from jobmgr.dialects.dialect import Answer, Command, NotUnderstood
from jobmgr.errors import FileMissing, OtherDirectory, SiteError
from jobmgr.executors import place, transcript
from jobmgr.executors.place import Place
from jobmgr.transports.output import Output
from jobmgr.transports.site_directory import SiteDirectories
from tests.fuzz import garbage

_FRAMED = [b"0 11\n12000000002", b"1 13\nno\n000000003", b"other 3\nabc", b"failed 9\nno space\n"]
_FILES = [b"12 1763719200.5 a/b\n0 1763719200 c\n", b"10 801:77 0\nwhat is there"]
_WRITTEN = [b"1763719200.1 1763719201.2 /w/x.batchinfo\n1763719200.7 ./a/b.log\n", b"1763719200.1  /w\n"]
_LOOKED = [b"job/1\ttoken\tjm-1 0\t\t\t\n", b"job/1\t\t\t\t\t\n"]
_CODES = st.sampled_from([None, 0, 0, 0, 1, 2, 44, 45, 47, 48, 126, 127, 255])


@st.composite
def answers(draw: st.DrawFn, *whole: bytes) -> Answer:
    """As a transport gives it: bytes that are no UTF-8 escaped."""
    out = draw(garbage.broken(whole))
    err = draw(garbage.broken([b"", b"jobmgr-place: missing /w", b"jobmgr-place: stranger x"]))
    return Answer(draw(_CODES), *(text.decode("utf-8", "surrogateescape") for text in (out, err)))


@dataclass
class Way:
    """A transport to a site that answers the same to everything."""

    answer: Answer
    host: str = "lab"

    async def run(self, command: Command, timeout_s: float) -> Answer:  # noqa: ARG002 -- the contract's names
        return self.answer

    async def close(self) -> None:
        return


@given(run=answers(*_FRAMED, b"".join(_FRAMED)), count=st.integers(1, 4))
def test_of_each_parcel_something_is_heard(run: Answer, count: int) -> None:
    heard = transcript.read(run, count)

    assert len(heard) == count
    if run.exit_code is None:
        assert transcript.NotAsked() not in heard


@given(text=garbage.broken([b"a 0 1\nb\n", b"a away\nb 0\n"]))
def test_files_that_are_missing_are_among_those_asked_for(text: bytes) -> None:
    wanted = [("x", "y"), ("z",)]
    with contextlib.suppress(NotUnderstood):
        told = place.read_missing(wanted, text.decode("utf-8", "surrogateescape"))

        assert all(
            found is None or set(found) <= set(names) for found, names in zip(told, wanted, strict=True)
        )


@given(answer=answers(*_LOOKED, b"0123456789abcdef\n", b"a 0\n"))
def test_a_work_directory_answers_or_is_out_of_reach(answer: Answer) -> None:
    async def ask() -> None:
        root = Place(Way(answer), "/w")
        for asked in (
            root.make_roots(),
            root.recognise(""),
            root.look(["job/1"]),
            root.void([("job/1", "token")]),
            root.missing([("job/1", ["x", "y"])]),
        ):
            with contextlib.suppress(SiteError, OtherDirectory):
                await asked

    asyncio.run(ask())


@given(answer=answers(*_FILES, *_WRITTEN))
def test_a_run_directory_answers_or_is_trouble(answer: Answer) -> None:
    async def ask() -> None:
        directory = SiteDirectories("lab", Way(answer)).directory("/w/runs/job/1")
        with contextlib.suppress(SiteError, FileMissing):
            assert all(entry.size_bytes >= 0 for entry in await directory.listing())
        with contextlib.suppress(SiteError, FileMissing):
            assert all(one.modified_at.tzinfo for one in await directory.written("/w", "x", "log"))
        with contextlib.suppress(SiteError, FileMissing):
            window = await (await directory.open("stdout")).read(0, 100)
            assert window.offset >= 0
            assert window.size_bytes >= 0

    asyncio.run(ask())


@given(pieces=st.lists(garbage.broken([b"mark77;", b"noise mark77;text", b"mark"]), max_size=4))
def test_a_process_is_a_number_or_not_told(pieces: list[bytes]) -> None:
    output = Output("mark")
    for index, piece in enumerate(pieces):
        output.add(piece, is_stderr=index % 2 == 1)

    assert output.pid is None or 0 <= output.pid < 10**18
    output.answer(0).stdout.encode("utf-8", "surrogateescape")
