"""What only a flow does: invert pictures, restore them, transfer content."""
