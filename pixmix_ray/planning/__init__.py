"""What is missing, in which order, and what it will cost."""
