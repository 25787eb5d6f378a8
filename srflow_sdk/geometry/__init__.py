"""Where pictures, windows and tiles lie, and their sizes, for all that lies above."""
