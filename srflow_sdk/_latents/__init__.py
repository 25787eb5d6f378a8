"""What :class:`srflow_sdk.Latents` consists of: its arrays, their statistics, mixtures and files."""
