"""Grids of runs that are too big for a notebook: declared, run, stored, and re-run a cell at a time."""
