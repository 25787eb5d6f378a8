"""What happens to pixels outside the network: colour profiles, transparency, consistency with the LR image."""
