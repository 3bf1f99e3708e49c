"""What is made of the words of a shell that hands in several parcels, whole or not."""

from __future__ import annotations

import pytest

from jobmgr.dialects.dialect import Answer
from jobmgr.executors.transcript import NotAsked, NotPlaced, PlacedForOther, read

DOUBT = Answer(None, "", "")


def told(kind: str, text: str) -> str:
    return f"{kind} {len(text.encode(errors='surrogateescape'))}\n{text}"


def answer(exit_code: int, stdout: str, stderr: str = "") -> str:
    return told(str(exit_code), f"{stderr}{stdout}{len(stdout.encode()):09}")


def test_each_is_told_of_in_its_order() -> None:
    said = (
        answer(0, "12")
        + told("other", "abc")
        + answer(3, "it's ä", "no\n")
        + told("failed", "to write there")
    )

    assert read(Answer(0, said), 4) == [
        Answer(0, "12"),
        PlacedForOther("abc"),
        Answer(3, "it's ä", "no\n"),
        NotPlaced("to write there"),
    ]


def test_who_is_not_told_of_in_the_end_was_not_asked_for() -> None:
    assert read(Answer(0, answer(1, "", "away")), 3) == [Answer(1, "", "away"), NotAsked(), NotAsked()]


@pytest.mark.parametrize("exit_code", [None, 1, 137])
def test_who_is_not_told_of_by_a_shell_that_was_ended_is_in_doubt(exit_code: int | None) -> None:
    assert read(Answer(exit_code, answer(0, "12")), 3) == [Answer(0, "12"), DOUBT, DOUBT]


@pytest.mark.parametrize("exit_code", [None, 0, 137])
def test_half_an_answer_is_none(exit_code: int | None) -> None:
    """Wherever it breaks off."""
    first, second = answer(0, "12"), answer(0, "34\n5", "words")
    for length in range(1, len(second)):
        assert read(Answer(exit_code, first + second[:length]), 3) == [Answer(0, "12"), DOUBT, DOUBT]


def test_answer_that_looks_like_answers_is_one() -> None:
    said = answer(0, answer(0, "7"), answer(0, "8"))

    assert read(Answer(0, said + answer(0, "9")), 2) == [
        Answer(0, answer(0, "7"), answer(0, "8")),
        Answer(0, "9"),
    ]


@pytest.mark.parametrize("noise", ["Welcome!\n", "welcome 3\nabc", "0 1_0\n", "\n"])
def test_what_no_shell_of_ours_said_leaves_the_rest_in_doubt(noise: str) -> None:
    assert read(Answer(0, answer(0, "12") + noise + answer(0, "34")), 2) == [Answer(0, "12"), DOUBT]


def test_who_was_to_tell_of_one_and_was_ended_leaves_it_in_doubt() -> None:
    """Only what the command wrote to stderr came."""
    assert read(Answer(0, told("137", "killed 000000099")), 2) == [
        Answer(None, "", "killed 000000099"),
        NotAsked(),
    ]


def test_shell_that_cannot_be_started_has_handed_nothing_in() -> None:
    heard = read(Answer(126, "", "sh: Argument list too long"), 2)

    assert heard == [NotPlaced("sh: Argument list too long")] * 2
