"""Families of procedural problems; `megatron_sft.data.tasks.registry` lists them."""
