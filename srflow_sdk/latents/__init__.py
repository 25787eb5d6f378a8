"""Latents: the random numbers of pictures, their statistics and files."""
