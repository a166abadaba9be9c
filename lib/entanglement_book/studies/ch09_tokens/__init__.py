"""The study of token by token."""
