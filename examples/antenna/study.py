"""Study Yagi-Uda antennas: three hundred designs, one job each, on a running jobmgr service.

Sweeps the length of the directors and the spacing, for three reflectors. Two more designs are impossible
on purpose, to show what a failed job looks like; the exit code is 0 when exactly these two failed.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import CenteredNorm
from matplotlib.patheffects import withStroke
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobmgr.client import Client
from jobmgr.domain.job import Job
from jobmgr.domain.status import Status
from jobmgr.errors import JobmgrError

YAGI = Path(__file__).with_name("yagi.py").resolve()
RESULT_FILE = "result.json"
FIGURES = ("max_gain_dbi", "front_to_back_db", "resistance_ohm", "reactance_ohm", "vswr_50_ohm")

# Wavelengths.
REFLECTORS = (0.47, 0.49, 0.51)
DIRECTORS = tuple(round(0.38 + 0.01 * i, 3) for i in range(10))
SPACINGS = tuple(round(0.10 + 0.025 * i, 3) for i in range(10))


@dataclass(frozen=True, slots=True)
class Design:
    """The swept lengths of one antenna, in wavelengths; the rest are the defaults of yagi.py."""

    reflector: float
    director: float
    spacing: float

    @property
    def name(self) -> str:
        """Name of the job that solves it."""
        return f"yagi r{self.reflector:.3f} d{self.director:.3f} s{self.spacing:.3f}"

    def job(self) -> dict[str, Any]:
        """The job that solves it, as the REST API takes it."""
        lengths = [word for name, value in asdict(self).items() for word in (f"--{name}", str(value))]
        return {
            "name": self.name,
            "command": [sys.executable, str(YAGI), *lengths, "--output", RESULT_FILE],
            # The matrices are so small that starting threads would cost more than solving.
            "env": {"OPENBLAS_NUM_THREADS": "1"},
            "tags": ["antenna"],
            "success": {"required_files": [RESULT_FILE]},
        }


IMPOSSIBLE = (Design(0.49, 0.0, 0.2), Design(0.49, 0.43, 0.0))


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a design: its figures when the job completed, else the reason why it did not."""

    design: Design
    job_id: str
    figures: dict[str, float] | None
    reason: str = ""


def designs() -> list[Design]:
    """Every combination that is swept, and the impossible ones."""
    return [Design(r, d, s) for r, s, d in product(REFLECTORS, SPACINGS, DIRECTORS)] + list(IMPOSSIBLE)


async def run(url: str | None) -> list[Trial]:
    """Submit all designs in one request, wait until all have ended, and fetch what they left."""
    swept = designs()
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with Client(url) as client:
        job_ids = await client.submit_many([design.job() for design in swept])
        with Progress(*bar) as progress:
            solving = progress.add_task("solving   ", total=len(job_ids))
            jobs = await client.wait_many(
                job_ids, lambda ended, _total: progress.update(solving, completed=ended)
            )
            pairs = progress.track(list(zip(swept, jobs, strict=True)), description="collecting")
            return [await _trial(client, design, job) for design, job in pairs]


async def _trial(client: Client, design: Design, job: Job) -> Trial:
    if job.status is Status.COMPLETED:
        result = json.loads(await client.file(job.job_id, RESULT_FILE))
        return Trial(design, job.job_id, {name: result[name] for name in FIGURES})
    last = (await client.log(job.job_id, "stderr", tail=1)).data.decode(errors="replace").strip()
    failure = job.error.message if job.error else job.status
    return Trial(design, job.job_id, None, last or failure)


def best_designs(trials: Sequence[Trial], count: int = 10) -> Table:
    """The designs with the largest gain."""
    table = Table(title=f"The best {count} of {len(trials)} designs, by gain (lengths in wavelengths)")
    for heading in ("reflector", "director", "spacing", "gain dBi", "front/back dB", "impedance Ohm", "VSWR"):
        table.add_column(heading, justify="right")
    solved = [(trial.design, trial.figures) for trial in trials if trial.figures]
    for design, figures in sorted(solved, key=lambda pair: pair[1]["max_gain_dbi"], reverse=True)[:count]:
        table.add_row(
            f"{design.reflector:.3f}",
            f"{design.director:.3f}",
            f"{design.spacing:.3f}",
            f"{figures['max_gain_dbi']:.2f}",
            f"{figures['front_to_back_db']:.1f}",
            f"{figures['resistance_ohm']:.1f}{figures['reactance_ohm']:+.1f}j",
            f"{figures['vswr_50_ohm']:.2f}",
        )
    return table


def failures(trials: Sequence[Trial], count: int = 20) -> Table:
    """The first jobs that gave no result, each with its reason."""
    failed = [trial for trial in trials if trial.figures is None]
    table = Table("job", "id", "reason", title=f"{len(failed)} jobs failed ({len(IMPOSSIBLE)} on purpose)")
    for trial in failed[:count]:
        table.add_row(trial.design.name, trial.job_id, trial.reason)
    return table


def write_csv(trials: Sequence[Trial], path: Path) -> None:
    """One row per design, in the order of submission; figures are empty where there is a reason."""
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, ["job_id", "reflector", "director", "spacing", *FIGURES, "reason"])
        rows.writeheader()
        for trial in trials:
            known = trial.figures or {}
            rows.writerow({"job_id": trial.job_id, **asdict(trial.design), **known, "reason": trial.reason})


def plot(trials: Sequence[Trial], path: Path) -> None:
    """Heat maps over director length and spacing, one column per reflector: gain, and front-to-back ratio."""
    mpl.use("Agg")
    gains = _maps(trials, "max_gain_dbi")
    ratios = _maps(trials, "front_to_back_db")
    figure, axes = plt.subplots(
        2, len(REFLECTORS), figsize=(13, 8), sharex=True, sharey=True, layout="constrained"
    )
    looks: tuple[dict[str, Any], ...] = (
        {"cmap": "viridis", "vmin": np.nanmin(gains), "vmax": np.nanmax(gains)},
        # Below 0 dB the antenna points backwards, so that is where the colour turns.
        {"cmap": "RdBu", "norm": CenteredNorm(0, float(np.nanmax(np.abs(ratios))))},
    )
    labels = ("maximum gain (dBi)", "front-to-back ratio (dB)")
    for row, maps, look, label in zip(axes, (gains, ratios), looks, labels, strict=True):
        for ax, values in zip(row, maps, strict=True):
            mesh = ax.pcolormesh(DIRECTORS, SPACINGS, values, shading="nearest", **look)
            ax.set_facecolor("lightgrey")  # where there is no result
            _mark_largest(ax, values)
        figure.colorbar(mesh, ax=row, label=label)
        row[0].set_ylabel("element spacing (wavelengths)")
    for ax, reflector in zip(axes[0], REFLECTORS, strict=True):
        ax.set_title(f"reflector {reflector:g} wavelengths")
    for ax in axes[-1]:
        ax.set_xlabel("director length (wavelengths)")
    figure.suptitle("Five-element Yagi-Uda antenna in free space, driven element 0.46 wavelengths (NEC2)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _maps(trials: Sequence[Trial], figure: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64[reflector, spacing, director], ascending each; NaN where there is no result."""
    values = {trial.design: trial.figures[figure] for trial in trials if trial.figures}
    grid = [values.get(Design(r, d, s), np.nan) for r, s, d in product(REFLECTORS, SPACINGS, DIRECTORS)]
    return np.array(grid).reshape(len(REFLECTORS), len(SPACINGS), len(DIRECTORS))


def _mark_largest(ax: Any, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    if np.isnan(values).all():
        return
    spacing, director = np.unravel_index(np.nanargmax(values), values.shape)
    x, y = DIRECTORS[director], SPACINGS[spacing]
    ax.plot(x, y, marker="*", markersize=13, color="white", markeredgecolor="black")
    ax.annotate(
        f"{values[spacing, director]:.1f}",
        (x, y),
        xytext=(-8, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color="white",
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )


def main() -> int:
    """Run the study; 1 when other jobs failed than the impossible ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="of the jobmgr service (JOBMGR_URL, else the running one of this user)")
    parser.add_argument(
        "--output", type=Path, default=Path("antenna-results"), help="directory (%(default)s)"
    )
    arguments = parser.parse_args()
    console = Console()
    started = time.monotonic()
    try:
        trials = asyncio.run(run(arguments.url))
    except JobmgrError as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    console.print(best_designs(trials), failures(trials))
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_csv(trials, arguments.output / "results.csv")
    print(f"{len(trials)} jobs in {time.monotonic() - started:.1f} s")
    print(f"all results: {arguments.output / 'results.csv'}")
    if any(trial.figures for trial in trials):
        plot(trials, arguments.output / "gain.png")
        print(f"plot:        {arguments.output / 'gain.png'}")
    failed = {trial.design for trial in trials if trial.figures is None}
    return 0 if failed == set(IMPOSSIBLE) else 1


if __name__ == "__main__":
    sys.exit(main())
