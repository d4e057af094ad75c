"""Studies as stages: what is made of what, what it costs, and jobs of a cluster."""
