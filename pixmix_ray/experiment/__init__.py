"""The experiment file, and what it expands to."""
