"""What this machine has: memory, GPUs, a folder for caches."""
