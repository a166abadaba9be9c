"""The study of gradient entanglement."""
