"""The study of chapter 1."""
