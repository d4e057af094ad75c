"""Runs programs that nobody has read: bubblewrap with limits on memory, processes, time and output."""
