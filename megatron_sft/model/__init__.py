"""Model layer: Megatron-Core GPT models, the device they run on, and their checkpoint folders."""
