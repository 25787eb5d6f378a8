"""Stands in for Triton's onnxruntime backend, which no package has: runs the same files with the same configs.

As that backend does, it joins the requests of a batch, runs the graph once, and gives each request its part.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        file = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        options = onnxruntime.SessionOptions()
        options.enable_mem_pattern = config["parameters"]["enable_mem_pattern"]["string_value"] != "0"
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(file), options)
        ranks = {value.name: len(value.shape) for value in self._session.get_inputs()}
        declared = {value["name"]: value for value in config["input"]}
        assert declared.keys() == ranks.keys()
        for name, value in declared.items():
            dims = value["reshape"]["shape"] if "reshape" in value else value["dims"]
            assert ranks[name] == 1 + len(dims), f"{name}: the graph has {ranks[name]} dimensions"
        self._outputs = [value["name"] for value in config["output"]]
        self._most = 0

    def execute(self, requests):
        parts = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        sizes = [len(next(iter(part.values()))) for part in parts]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if sum(sizes) > self._most:
            self._most = sum(sizes)
            triton.Logger.log_info(f"largest batch so far: {self._most}")
        results = self._session.run(self._outputs, joined)
        ends = np.cumsum(sizes)[:-1]
        split = [np.split(result, ends) for result in results]
        return [
            triton.InferenceResponse(
                [triton.Tensor(name, result[number]) for name, result in zip(self._outputs, split, strict=True)]
            )
            for number in range(len(requests))
        ]
