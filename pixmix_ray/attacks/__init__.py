"""Attacks on networks: what trains against them and what measures them is in `methods` and `benchmarks`."""
