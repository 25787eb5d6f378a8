"""What this machine can run, why not the rest, and the command that fixes it: srflow-doctor."""
