"""Many files: which become which, running them, resuming, reporting, showing progress."""
