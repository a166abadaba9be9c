"""The study of every margin loss."""
