"""Reckoning before a run: which parallel layouts of a model fit into memory, and how long a step takes in each.

Plain arithmetic over a `ModelGeometry`: no torch, no GPU. docs/parallelism.md says what the figures rest on.
"""
