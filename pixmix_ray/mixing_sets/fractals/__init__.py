"""Fractals: drawn like those of the paper (`fractals`), and FractalDB (`fractaldb`)."""
