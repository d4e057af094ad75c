"""Conversion between Hugging Face folders and Megatron-Core checkpoints."""
