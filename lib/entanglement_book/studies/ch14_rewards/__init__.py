"""The study of rewards instead of margins."""
