"""The engine: claims what is due, runs it, records how it ended."""
