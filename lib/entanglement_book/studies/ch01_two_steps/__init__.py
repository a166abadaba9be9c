"""The study of RLHF in two steps."""
