"""Solve one Yagi-Uda antenna with NEC2 and write what came out as JSON.

All lengths are in wavelengths. The elements are parallel rods along z, the boom lies along x:
reflector, driven element, then the directors, which all have the same length.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import PyNEC
except ImportError:
    raise SystemExit("yagi: the NEC2 solver is missing; install it with: pip install PyNEC") from None

# At this frequency the wavelength is 1 m, so lengths in wavelengths are the metres that NEC2 wants.
FREQUENCY_MHZ = 299.792458
LINE_OHM = 50.0
# Odd, so that the middle of an element, where it is fed, is the middle of a segment.
SEGMENTS = 21
PATTERN_STEP_DEG = 5

# Source: NEC-2 User's Guide, "Structure modeling guidelines". Beyond these limits NEC2 answers, but wrongly.
MAX_SEGMENT_LENGTH = 0.1
MIN_SEGMENT_LENGTH_IN_RADII = 8.0


class GeometryError(ValueError):
    """The antenna cannot be built, or NEC2 cannot solve it; the text says why."""


@dataclass(frozen=True, slots=True)
class Element:
    """A straight rod: its place on the boom and its length, both in wavelengths."""

    name: str
    position: float
    length: float


@dataclass(frozen=True, slots=True)
class Antenna:
    """Rods of one radius, in order along the boom; `fed` is the index of the driven one."""

    elements: tuple[Element, ...]
    fed: int
    radius: float


@dataclass(frozen=True, slots=True)
class Solution:
    """What NEC2 found, in free space, without losses. Front is the direction of the directors."""

    max_gain_dbi: float
    front_to_back_db: float
    resistance_ohm: float
    reactance_ohm: float
    vswr_50_ohm: float


def dipole(length: float, radius: float) -> Antenna:
    """A driven element alone."""
    return Antenna((Element("driven", 0.0, length),), fed=0, radius=radius)


def yagi(
    *, reflector: float, driven: float, director: float, directors: int, spacing: float, radius: float
) -> Antenna:
    """A Yagi-Uda antenna with `spacing` between all neighbours."""
    if directors < 0:
        raise GeometryError(f"there cannot be {directors} directors")
    front = (Element(f"director {i}", i * spacing, director) for i in range(1, directors + 1))
    elements = (Element("reflector", -spacing, reflector), Element("driven", 0.0, driven), *front)
    return Antenna(elements, fed=1, radius=radius)


def check(antenna: Antenna) -> None:
    """Raise GeometryError for what NEC2 would not refuse but answer wrongly."""
    if not antenna.radius > 0:
        raise GeometryError(f"the radius must be above zero, not {antenna.radius:g}")
    for element in antenna.elements:
        _check_element(element, antenna.radius)
    for one, other in zip(antenna.elements, antenna.elements[1:], strict=False):
        distance = other.position - one.position
        if not distance > 2 * antenna.radius:
            raise GeometryError(
                f"{one.name} and {other.name} overlap: their axes are {distance:g} apart, "
                f"but each is {2 * antenna.radius:g} thick"
            )


def _check_element(element: Element, radius: float) -> None:
    if not element.length > 0:
        raise GeometryError(f"the length of {element.name} must be above zero, not {element.length:g}")
    segment = element.length / SEGMENTS
    if segment > MAX_SEGMENT_LENGTH:
        raise GeometryError(f"{element.name} is too long: {element.length:g} wavelengths")
    if segment < MIN_SEGMENT_LENGTH_IN_RADII * radius:
        raise GeometryError(
            f"{element.name} is too thick for a thin-wire solver: a segment of {segment:.4f} "
            f"must be at least {MIN_SEGMENT_LENGTH_IN_RADII:g} radii of {radius:g}"
        )


def solve(antenna: Antenna) -> Solution:
    """Solve a checked antenna. Raises GeometryError when NEC2 refuses it or its answer is not physical."""
    context = PyNEC.nec_context()
    try:
        _describe(context, antenna)
        # The antenna is symmetric about both planes of the boom, so a quarter of the sphere is enough.
        steps_theta, steps_phi = 90 // PATTERN_STEP_DEG + 1, 180 // PATTERN_STEP_DEG + 1
        context.rp_card(0, steps_theta, steps_phi, 0, 5, 0, 0, 0, 0, PATTERN_STEP_DEG, PATTERN_STEP_DEG, 0, 0)
    except RuntimeError as error:
        raise GeometryError(f"NEC2 refuses the geometry ({error})") from error
    front = float(context.get_gain(0, steps_theta - 1, 0))
    back = float(context.get_gain(0, steps_theta - 1, steps_phi - 1))
    impedance = complex(context.get_impedance_real(0), context.get_impedance_imag(0))
    if not (math.isfinite(front) and math.isfinite(impedance.imag) and impedance.real > 0):
        raise GeometryError(f"NEC2 found no physical answer (input impedance {impedance:.3g} Ohm)")
    return Solution(
        max_gain_dbi=float(context.get_gain_max(0)),
        front_to_back_db=front - back,
        resistance_ohm=impedance.real,
        reactance_ohm=impedance.imag,
        vswr_50_ohm=vswr(impedance),
    )


def _describe(context: PyNEC.nec_context, antenna: Antenna) -> None:
    geometry = context.get_geometry()
    for tag, element in enumerate(antenna.elements, start=1):
        x, half = element.position, element.length / 2
        geometry.wire(tag, SEGMENTS, x, 0, -half, x, 0, half, antenna.radius, 1.0, 1.0)
    context.geometry_complete(0)
    context.gn_card(-1, 0, 0, 0, 0, 0, 0, 0)
    context.ex_card(0, antenna.fed + 1, SEGMENTS // 2 + 1, 0, 1.0, 0, 0, 0, 0, 0)
    context.fr_card(0, 1, FREQUENCY_MHZ, 0)


def vswr(impedance: complex) -> float:
    """Voltage standing wave ratio of `impedance` (Ohm, resistance above zero) on a 50 Ohm line."""
    reflection = abs((impedance - LINE_OHM) / (impedance + LINE_OHM))
    return (1 + reflection) / (1 - reflection)


def main() -> int:
    """Solve what the command line describes; 1 when that is impossible, with the reason on stderr."""
    parameters = vars(_parser().parse_args())
    output = Path(parameters.pop("output"))
    is_dipole = parameters.pop("dipole")
    if is_dipole:
        parameters = {name: parameters[name] for name in ("driven", "radius")}
    try:
        antenna = dipole(parameters["driven"], parameters["radius"]) if is_dipole else yagi(**parameters)
        check(antenna)
        solution = solve(antenna)
        output.write_text(json.dumps({"parameters": parameters, **asdict(solution)}, indent=2) + "\n")
    except (GeometryError, OSError) as error:
        print(f"yagi: {error}", file=sys.stderr)
        return 1
    print(
        f"gain {solution.max_gain_dbi:.2f} dBi, front to back {solution.front_to_back_db:.1f} dB, "
        f"impedance {solution.resistance_ohm:.1f}{solution.reactance_ohm:+.1f}j Ohm, "
        f"VSWR {solution.vswr_50_ohm:.2f}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    lengths = (
        ("--reflector", 0.49, "length of the reflector"),
        ("--driven", 0.46, "length of the driven element"),
        ("--director", 0.43, "length of each director"),
        ("--spacing", 0.2, "distance between neighbours"),
        ("--radius", 0.002, "radius of every element"),
    )
    for name, default, text in lengths:
        parser.add_argument(
            name, default=default, type=float, metavar="WAVELENGTHS", help=f"{text} (%(default)s)"
        )
    parser.add_argument("--directors", default=3, type=int, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--dipole", action="store_true", help="the driven element alone")
    parser.add_argument("--output", default="result.json", metavar="FILE", help="(%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
