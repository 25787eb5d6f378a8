"""Running TensorRT's and TensorRT-RTX's engines: the GPU, its memory, contexts and threads."""
