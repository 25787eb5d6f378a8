"""Latents: the random numbers that pictures are drawn from, those of one picture, their statistics
and files.
"""
