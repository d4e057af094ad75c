"""Graders: each decides whether one response answers one item."""
