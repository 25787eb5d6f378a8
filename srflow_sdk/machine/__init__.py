"""What this machine has and can run: memory, GPUs, installed libraries."""
