"""What only a flow can do: invert pictures, restore them, transfer content, choose the best of several samples."""
