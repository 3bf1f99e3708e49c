"""Modules of PyEDB's job manager as programs: `python -m benchmarks.peers.pyedb_package MODULE ARGUMENT…`.

The module runs unchanged, as `python -m MODULE ARGUMENT…` would run it where all of PyEDB can be imported. It needs
the peer's environment.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
import types


def stand_in() -> None:
    """Have `pyedb` name the package's folder only: its own start imports the whole of Ansys EDB."""
    spec = importlib.util.find_spec("pyedb")
    assert spec is not None
    package = types.ModuleType("pyedb")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["pyedb"] = package


def _main() -> None:
    stand_in()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
