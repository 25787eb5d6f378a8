"""What an inference server runs: requests as tensors, checked, drawn and answered. Triton is the one that exists."""
