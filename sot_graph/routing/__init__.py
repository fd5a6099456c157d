"""Which questions take the skeleton path: only those whose answer is a list of independent points."""
