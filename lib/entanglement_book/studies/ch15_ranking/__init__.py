"""Ranking, contrast, generation: what happens to several candidates at once."""
