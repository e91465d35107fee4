"""A VM that has lost its standby runs on, once it is sure that it runs nowhere else."""
