"""Training: batches, loss, optimizer, checkpoints and the training loop."""

import megatron_sft.model  # noqa: F401  first, as it decides how Megatron-Core is imported
