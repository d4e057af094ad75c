"""Studies: tables of conditions, what they are compared with, and the analysis that answers their question."""
