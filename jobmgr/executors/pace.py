"""How often a foreign queue is looked at, and how long silence has to last before it means something."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. A scheduler is asked in growing pauses while nothing changes, and at once after a change."""

    # Between two looks at the files of attempts, all with one command.
    files_s: float = 1.0
    # But at least so many times as long as the look itself took, that many attempts are no burden to a site.
    rest: float = 5.0
    ask_first_s: float = 2.0
    ask_max_s: float = 30.0
    # What comes within this time of one another is handed in, or cancelled, together; the longer time is for handing
    # in while `plenty` of others wait there anyway, that a campaign goes on in arrays and not one by one as others end.
    gather_s: float = 0.2
    gather_more_s: float = 5.0
    plenty: int = 50
    # How long a scheduler has for one answer; what it answers later is not heard.
    command_s: float = 60.0
    # Between two tries while the site cannot be reached, or will not take a job now; doubled each time.
    again_first_s: float = 2.0
    again_max_s: float = 120.0
    # The same while its work directory is away and only that is looked for, with a command that asks no scheduler.
    away_max_s: float = 10.0
    # A command that did not answer may hand its job in after us; so long nothing is concluded from its absence.
    in_doubt_s: float = 20.0
    # How long a scheduler has to end a job, by its own warnings, before it is asked again; doubled each time.
    end_again_s: float = 60.0
    # How long a record may be under way on a network file system after the scheduler called a run ended.
    record_comes_s: float = 15.0
    # How long a job has to be missing in complete listings before that counts.
    absent_s: float = 60.0
    # For how long a scheduler may call a job alive that recorded its end, before it is asked to end it.
    ghost_s: float = 300.0


DEFAULT_PACE = Pace()
