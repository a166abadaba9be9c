"""The study of where the probability goes."""
