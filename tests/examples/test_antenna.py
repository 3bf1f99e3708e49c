"""The antenna example: the solver program gives known answers and fails with a reason."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ANTENNA = Path(__file__).parents[2] / "examples" / "antenna"

needs_solver = pytest.mark.skipif(
    importlib.util.find_spec("PyNEC") is None, reason="PyNEC (the NEC2 solver) is not installed"
)


def run_yagi(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ANTENNA / "yagi.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def solve(cwd: Path, *arguments: str) -> dict[str, Any]:
    done = run_yagi(cwd, *arguments)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((cwd / "result.json").read_text())
    return result


@needs_solver
def test_half_wave_dipole_has_its_known_gain_and_impedance(tmp_path: Path) -> None:
    result = solve(tmp_path, "--dipole", "--driven", "0.5", "--radius", "0.0001")

    # An infinitely thin half-wave dipole: 2.15 dBi and 73 + 42.5j Ohm; a real rod has a little more of both.
    assert result["max_gain_dbi"] == pytest.approx(2.15, abs=0.1)
    assert result["front_to_back_db"] == pytest.approx(0, abs=0.01)
    assert result["resistance_ohm"] == pytest.approx(73, rel=0.15)
    assert result["reactance_ohm"] == pytest.approx(42.5, rel=0.15)


@needs_solver
def test_yagi_has_more_gain_than_a_dipole_and_looks_forward(tmp_path: Path) -> None:
    dipole = solve(tmp_path, "--dipole")

    yagi = solve(tmp_path, "--reflector", "0.49", "--director", "0.43", "--spacing", "0.2")

    # Five elements on a boom of 0.8 wavelengths: handbooks say about 9 to 11.5 dBi.
    assert 9 < yagi["max_gain_dbi"] < 11.5
    assert yagi["max_gain_dbi"] > dipole["max_gain_dbi"] + 6
    assert yagi["front_to_back_db"] > 10


@needs_solver
def test_result_file_holds_parameters_and_figures(tmp_path: Path) -> None:
    done = run_yagi(tmp_path, "--spacing", "0.25", "--directors", "1", "--output", "one.json")

    result = json.loads((tmp_path / "one.json").read_text())
    parameters = result.pop("parameters")
    assert parameters == {
        "reflector": 0.49,
        "driven": 0.46,
        "director": 0.43,
        "directors": 1,
        "spacing": 0.25,
        "radius": 0.002,
    }
    figures = {"max_gain_dbi", "front_to_back_db", "resistance_ohm", "reactance_ohm", "vswr_50_ohm"}
    assert set(result) == figures
    assert all(isinstance(value, float) for value in result.values())
    assert result["vswr_50_ohm"] >= 1
    assert f"gain {result['max_gain_dbi']:.2f} dBi" in done.stdout


@needs_solver
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--spacing", "0"], "reflector and driven overlap"),
        (["--spacing", "0.003"], "overlap: their axes are 0.003 apart, but each is 0.004 thick"),
        (["--spacing", "nan"], "overlap"),
        (["--director", "0"], "length of director 1 must be above zero"),
        (["--driven", "-0.46"], "length of driven must be above zero"),
        (["--reflector", "inf"], "reflector is too long"),
        (["--directors", "-1"], "there cannot be -1 directors"),
        (["--radius", "0"], "radius must be above zero"),
        (["--radius", "0.02"], "reflector is too thick"),
    ],
)
def test_impossible_geometry_fails_with_its_reason(tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = run_yagi(tmp_path, *arguments)

    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    monkeypatch.syspath_prepend(ANTENNA)
    return importlib.import_module("study")


def test_study_submits_each_design_once_with_its_own_name(study: ModuleType) -> None:
    jobs = [design.job() for design in study.designs()]

    assert len(jobs) == 302
    assert len({job["name"] for job in jobs}) == len(jobs)
    assert all(job["success"] == {"required_files": ["result.json"]} for job in jobs)


def test_study_reports_what_was_solved_and_what_failed(study: ModuleType, tmp_path: Path) -> None:
    figures = dict.fromkeys(study.FIGURES, 3.0)
    solved, *failed = study.designs()
    trials = [study.Trial(solved, "first", figures), *(study.Trial(d, "x", None, "no luck") for d in failed)]

    study.write_csv(trials, tmp_path / "results.csv")
    study.plot(trials, tmp_path / "gain.png")

    header, first, second, *_ = (tmp_path / "results.csv").read_text().splitlines()
    assert header.startswith("job_id,reflector,director,spacing,max_gain_dbi,")
    assert first == "first,0.47,0.38,0.1,3.0,3.0,3.0,3.0,3.0,"
    assert second == "x,0.47,0.39,0.1,,,,,,no luck"
    assert (tmp_path / "gain.png").read_bytes().startswith(b"\x89PNG")
    assert study.best_designs(trials).row_count == 1
    assert study.failures(trials, count=5).row_count == 5
