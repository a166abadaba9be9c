"""The study of one number, or the gradients."""
