"""The routes of pyedb's job manager, in both of its families: `/jobs`, … and `/api/jobs`, …; a thin layer."""
