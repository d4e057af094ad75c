"""IFEval: instructions that a program can check."""
