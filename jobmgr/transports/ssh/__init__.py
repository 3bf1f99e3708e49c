"""A site over SSH: the only place that knows asyncssh, so it is imported when a site needs it."""
