"""Ways to a site: running a command there and moving a file, on this machine or over SSH."""
