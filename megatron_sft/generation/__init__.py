"""What programs that generate text share: model folders as an engine needs them, and vLLM in processes of its own."""
