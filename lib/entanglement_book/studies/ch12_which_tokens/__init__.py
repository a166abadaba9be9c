"""The study of which tokens matter."""
