"""From raw reasoning traces to scored checkpoints: data layer, Megatron-Core trainer, conversion and reports."""

__version__ = "0.1.0"
