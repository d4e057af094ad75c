"""Data sets as recipes: from sources to rows, shards and a data card."""
