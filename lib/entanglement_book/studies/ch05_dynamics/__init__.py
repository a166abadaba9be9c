"""The study of training dynamics."""
