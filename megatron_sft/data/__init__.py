"""Data layer: shards, chat templates, sample order and packing. NumPy only; never imports torch."""
