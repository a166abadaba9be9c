"""One folder a chapter: its study, grid, tables and figures."""
