"""The study of controlling each response."""
