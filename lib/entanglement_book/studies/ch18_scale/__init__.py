"""What the steps of a preference training, and looking at its gradients, cost."""
