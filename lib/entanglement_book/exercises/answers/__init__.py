"""A module a chapter, each with ``CHECKS``: the right answers of its exercises, and the usual wrong ones."""
