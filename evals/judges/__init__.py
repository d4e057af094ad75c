"""Judges: models that answer questions about responses that no rule can grade."""
