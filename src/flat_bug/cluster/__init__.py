"""Experiments on a SLURM cluster: profile, environment, submission, observation, rehearsal."""
