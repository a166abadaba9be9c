"""The study of chapter 5."""
