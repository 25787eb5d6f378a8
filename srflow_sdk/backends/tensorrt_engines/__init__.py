"""Running TensorRT and TensorRT-RTX engines: the GPU, its memory, the choice of engines, their
contexts and threads.
"""
