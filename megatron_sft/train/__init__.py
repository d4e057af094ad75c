"""Training: batches, loss, optimizer, checkpoints and the training loop."""
