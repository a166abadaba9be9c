"""The study of chapter 9."""
