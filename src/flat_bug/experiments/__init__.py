"""Plans, tasks and records; one module per experiment; the local submitter."""
