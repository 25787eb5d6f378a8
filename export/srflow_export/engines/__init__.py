"""Bundle → engines: what TensorRT and TensorRT-RTX build from its graphs, checked, cached and recorded. No torch."""
