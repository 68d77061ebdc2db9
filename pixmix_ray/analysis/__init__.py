"""From the table of measurements to answers."""
