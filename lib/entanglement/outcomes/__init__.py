"""What training did: single steps, where the probability went, what the answers are like."""
