"""What the studies of several chapters share."""
