"""All that makes the same numbers faster, and nothing else."""
