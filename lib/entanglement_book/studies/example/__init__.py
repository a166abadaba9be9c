"""The study of a small example: what a new chapter starts from (``entanglement-book new-chapter``)."""
