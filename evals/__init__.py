"""Evaluation: tasks, graders and the runner that scores checkpoints."""
