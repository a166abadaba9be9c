"""The study of chapter 6."""
