"""`jobmgr doctor`: facts about this installation are gathered without changing anything, then judged."""
