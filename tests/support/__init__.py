"""What the tests and the benchmarks share, and users of the package have no use for."""
