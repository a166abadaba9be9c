"""The study of the appendix: measuring."""
