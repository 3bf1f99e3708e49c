"""The verbs of the product; every front door calls these and nothing else."""
