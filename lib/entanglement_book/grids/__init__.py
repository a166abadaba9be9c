"""Grids too big for a notebook: computed cell by cell, stored as tables, read by notebooks, met again.

``grid`` says what a grid is and finds all of them; ``run`` computes one; ``stored`` reads its tables;
``rerun`` computes one cell again and compares it; ``restamp`` carries tables over a change of the code that
moved no number; ``cli`` is the command ``entanglement-book results``.
"""
