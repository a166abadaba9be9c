"""The study of chapter 3."""
