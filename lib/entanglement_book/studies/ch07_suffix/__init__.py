"""The study of chapter 7."""
