"""Processes that begin with the libraries that take seconds to import: each is a fork of one that
has them."""

from __future__ import annotations

import multiprocessing

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        *(
            "torch",
            "torchvision",
            "torch.utils.tensorboard",
            "lightning_fabric",
            "piq",
            "onnx",
            "onnxruntime",
        ),
        *(
            "scipy.stats",
            "matplotlib.pyplot",
            "jinja2",
            "PIL.Image",
            "pydantic",
            "yaml",
            "safetensors.torch",
            "click",
        ),
        # pytest and its plugins: hypothesis alone takes a second
        *(
            "pytest",
            "hypothesis",
            "_hypothesis_pytestplugin",
            "anyio.pytest_plugin",
            "xdist.plugin",
            "filelock",
            "pdb",
        ),
    ]
)
