"""The client of a server: an Upscaler whose tiles are drawn there."""
