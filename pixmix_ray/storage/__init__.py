"""The results folder and every file in it."""
