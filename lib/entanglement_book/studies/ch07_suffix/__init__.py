"""The study of a shared suffix."""
