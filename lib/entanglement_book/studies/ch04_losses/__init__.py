"""The study of chapter 4."""
