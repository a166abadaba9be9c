"""The study of one token."""
