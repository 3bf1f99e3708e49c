"""`python -m jobmgr.compat.pyedb` says which programs there are."""

from __future__ import annotations

from jobmgr.compat.pyedb import programs

if __name__ == "__main__":
    programs.tell()
