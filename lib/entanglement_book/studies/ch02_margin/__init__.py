"""The study of chapter 2."""
