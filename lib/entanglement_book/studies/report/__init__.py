"""The study of the appendix: report."""
