"""Checkpoints, and one checkpoint on one benchmark, without Ray."""
