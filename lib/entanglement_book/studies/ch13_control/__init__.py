"""The study of chapter 13."""
