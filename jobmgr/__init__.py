"""jobmgr: a persistent job database that runs what it stores, exactly once."""

__version__ = "0.1.0"
