"""The machine and its operating system: memory, GPUs, caches, locks, whole files, interrupts."""
