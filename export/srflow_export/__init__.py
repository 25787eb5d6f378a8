"""Checkpoint → bundle: the hoisted ONNX graphs of the reverse pass, proved equal to the network on real photographs."""
