"""Ways of running attempts; `protocol` is the contract, `local` runs them on this machine."""
