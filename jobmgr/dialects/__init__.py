"""How schedulers are talked to: pure text and parsing, one scheduler per file."""
