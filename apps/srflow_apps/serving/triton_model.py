"""The model that Triton's python backend loads: `model.py` in a repository imports
:class:`TritonPythonModel`.

Requests are answered from threads, through their response senders, so that one instance works on
several at a time.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from srflow_apps.serving.service import PictureService
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    DeviceError,
    ImageError,
    OutOfMemoryError,
    SRFlowError,
)
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import BUNDLE, ServingOptions

_NOBODY = "(no model)"

_log = logging.getLogger(__name__)


class TritonPythonModel:
    """`srflow_upscale`: see docs/triton.md for its inputs and outputs."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle in the version's folder. Raises: TritonModelException, one line, if that
        is impossible.
        """
        # only the python backend has it
        triton: Any = importlib.import_module("triton_python_backend_utils")
        self._triton = triton
        # as in commands: float32 convolutions stay in float32
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        for package in ("srflow_sdk", "srflow_apps"):
            logging.getLogger(package).addHandler(_ServerLog(triton.Logger))
        parameters = {
            name: value["string_value"]
            for name, value in json.loads(args["model_config"])["parameters"].items()
        }
        try:
            options = _for_instance(ServingOptions.of_parameters(parameters), args)
            folder = Path(args["model_repository"]) / args["model_version"]
            self._service = PictureService(Bundle.open(folder / BUNDLE), options)
            _check_place(self._service, args)
        except SRFlowError as error:
            raise triton.TritonModelException(f"{type(error).__name__}: {error}") from error
        self._workers = ThreadPoolExecutor(options.in_flight, thread_name_prefix="srflow-request")
        self._room = threading.Semaphore(options.in_flight)

    def execute(self, requests: Sequence[Any]) -> None:
        """Start on each request, once there is room; until then the server queues what follows."""
        for request in requests:
            self._room.acquire()
            sender = request.get_response_sender()
            self._workers.submit(self._answer, request, sender)

    def finalize(self) -> None:
        """Finish what is worked on, then close."""
        self._workers.shutdown(wait=True)
        self._service.close()

    def _answer(self, request: Any, sender: Any) -> None:
        triton = self._triton
        try:
            response = self._respond(request, sender)
        except (
            BaseException
        ) as error:  # whatever it is, the client must hear of it, and the next request be answered
            response = triton.InferenceResponse(error=self._make_error(error))
        finally:
            self._room.release()
        try:
            sender.send(response, flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except (
            Exception
        ) as error:  # the backend takes no second response, so nothing can be sent instead
            _log.error(
                "an answer cannot be sent, and its client waits for its own deadline: %s", error
            )

    def _respond(self, request: Any, sender: Any) -> Any:
        def stop_if_gone() -> None:
            if sender.is_cancelled():
                raise CancelledError("the client cancelled the request")

        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        outputs = self._service.answer(inputs, after_tile=stop_if_gone)
        tensors = [self._triton.Tensor(name, value) for name, value in outputs.items()]
        self._place_tensors(tensors, sum(value.nbytes for value in outputs.values()))
        return self._triton.InferenceResponse(tensors)

    def _place_tensors(self, tensors: Sequence[Any], nbytes: int) -> None:
        """Put an answer's tensors into the memory that the server shares, while an error can still
        be sent instead.

        A sender whose first response does not fit takes no other one. Calling a model also places
        the call's tensors, and they stay placed; so a model that does not exist is called. Raises:
        OutOfMemoryError.
        """
        call = self._triton.InferenceRequest(
            model_name=_NOBODY, requested_output_names=[], inputs=list(tensors)
        )
        reason = str(call.exec().error().message())
        # otherwise it is that there is no such model, and the tensors are placed
        if _NOBODY not in reason:
            what = (
                f"the answer of {nbytes:,} bytes does not fit the memory that the server shares "
                "with its models"
            )
            _log.error("%s: %s", what, reason)
            raise OutOfMemoryError(
                f"{what}; ask for fewer samples or send a smaller picture, or give the server more "
                "(docker run "
                "--shm-size)"
            )

    def _make_error(self, error: BaseException) -> Any:
        code = self._triton.TritonError
        if isinstance(error, CancelledError):
            self._triton.Logger.log_info(f"srflow_upscale: {error}; its work ended")
            return code(f"CancelledError: {error}", code.CANCELLED)
        if isinstance(error, (ArgumentError, ImageError)):
            return code(f"{type(error).__name__}: {error}", code.INVALID_ARG)
        if isinstance(error, SRFlowError):
            return code(f"{type(error).__name__}: {error}", code.INTERNAL)
        if isinstance(error, MemoryError):
            return code(f"OutOfMemoryError: memory ran out for the answer ({error})", code.INTERNAL)
        _log.error("a request failed: %s: %s", type(error).__name__, error, exc_info=error)
        return code(f"the server failed: {type(error).__name__}: {error}", code.INTERNAL)


def _for_instance(options: ServingOptions, args: Mapping[str, str]) -> ServingOptions:
    """The options of this instance: on the CPU if Triton placed it there, otherwise on its GPU."""
    if args["model_instance_kind"] != "GPU":
        return replace(options, device="cpu") if options.device == "auto" else options
    if ":" in options.device:
        raise DeviceError(
            f"device is {options.device}, but Triton chooses each instance's GPU: leave the number "
            "out, and name GPUs "
            "in the instance_group of config.pbtxt"
        )
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    number = int(args["model_instance_device_id"])
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[number] if visible else str(number)
    return options


def _check_place(service: PictureService, args: Mapping[str, str]) -> None:
    """Raises: DeviceError for an instance on a GPU for which "auto" took the CPU."""
    if (
        args["model_instance_kind"] == "GPU"
        and service.options.device == "auto"
        and service.backend.device == "cpu"
    ):
        service.close()
        raise DeviceError(
            "the instance is placed on a GPU, but this server would compute on the CPU: "
            "srflow-doctor says why and "
            "prints the fix; for the CPU write KIND_CPU in the instance_group of config.pbtxt"
        )


class _ServerLog(logging.Handler):
    """Sends the SDK's log to the server's."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        tell = {logging.ERROR: self._logger.log_error, logging.WARNING: self._logger.log_warn}
        tell.get(record.levelno, self._logger.log_info)(self.format(record))
