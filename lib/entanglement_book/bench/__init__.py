"""What things cost: benchmark lines, their ways, and the table of the README."""
