"""One self-contained HTML page about one or several runs: scores per step, lengths, training curves, configuration."""
