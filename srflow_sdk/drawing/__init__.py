"""From LR rows to HR rows: tiles, temperature, painting, finishing, and files as streams."""
