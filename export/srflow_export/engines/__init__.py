"""Build TensorRT and TensorRT-RTX engines from a bundle's graphs, and check and record them. No
torch.
"""
