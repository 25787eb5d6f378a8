"""Uses that only a flow has: restore pictures, transfer content, choose the best of samples."""
