"""The model that an inference server runs: it checks requests, draws and answers. Triton is the one
server so far.
"""
