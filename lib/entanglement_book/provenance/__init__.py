"""What a page, a table, a verdict or a benchmark line was made by."""
