"""From LR rows to HR rows: temperature, painting, finishing, and files as streams."""
