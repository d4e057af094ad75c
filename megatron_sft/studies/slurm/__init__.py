"""Stages as jobs of a Slurm cluster, through submitit. docs/studies.md has what is submitted and how it goes on."""
