"""Model layer: Megatron-Core GPT models and the device they run on."""
