"""Applications: the commands, batches of files, the page srflow-demo, srflow-doctor, and what
servers run.
"""
