"""A stand-in for what componentize-py generates from the contract, for tests without it."""
