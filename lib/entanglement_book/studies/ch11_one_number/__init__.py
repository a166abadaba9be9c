"""The study of chapter 11."""
