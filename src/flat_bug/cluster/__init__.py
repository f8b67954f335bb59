"""SLURM: profiles, environment, submission, observation."""
