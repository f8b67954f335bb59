"""A throw-away Slurm on this machine, and the rehearsal of an experiment on it."""
