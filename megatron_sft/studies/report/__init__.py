"""The report of a study: findings as one self-contained page, and its figures as PNG and SVG."""
