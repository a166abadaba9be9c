"""The study of chapter 8."""
