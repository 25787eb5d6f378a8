"""srflow-doctor: what this machine can run, why the rest does not work, and the commands that fix
it.
"""
