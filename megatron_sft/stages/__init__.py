"""A graph of programs, each run only when its work is not done yet. docs/architecture.md has the marks and keys."""
