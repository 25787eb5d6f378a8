"""What this machine has and how to use it: memory, GPUs, caches, locks, whole files, interrupts, texts for people."""
