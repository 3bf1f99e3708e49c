"""Installs peers, once: `python -m benchmarks.peers.install PEER…`. Exits with 1 if one of them cannot be had."""

from __future__ import annotations

import argparse
import sys

from benchmarks.peers import environment
from benchmarks.peers.catalogue import PEERS
from benchmarks.skip import Skipped


def main() -> None:
    """Make the environments of the peers that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.install", description=__doc__)
    parser.add_argument("peers", nargs="+", choices=PEERS, metavar="PEER", help=f"of {', '.join(PEERS)}")
    try:
        for name in parser.parse_args().peers:
            environment.make(name, PEERS[name].installs)
    except Skipped as reason:
        sys.exit(str(reason))


if __name__ == "__main__":
    main()
