"""The study of chapter 12."""
