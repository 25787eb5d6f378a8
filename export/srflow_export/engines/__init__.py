"""Build TensorRT and TensorRT-RTX engines from a bundle's graphs, without torch."""
