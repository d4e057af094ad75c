"""`tools/bench`: how fast the data layer is, beside what else could do its work, on inputs made on the spot."""
