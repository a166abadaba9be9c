"""The study of the underspecified margin."""
