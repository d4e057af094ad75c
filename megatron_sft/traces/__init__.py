"""`tools/generate_traces`: a teacher answers queries, several times each."""
