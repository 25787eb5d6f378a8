"""Read and write checkpoint files. Nothing in a file is ever executed."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_sdk.model.manifest import Reduction
from srflow_sdk.system.local_files import write_atomically
from srflow_training.checkpoints.detection import detect_rrdb, detect_srflow, fit_trunk_skip
from srflow_training.checkpoints.keys import (
    from_published,
    published_rrdb_name,
    published_srflow_name,
)
from srflow_training.model import RRDB, Encoder, PlainEncoder, SRFlow, SRFlowConfig, build_encoder
from srflow_training.model.config import ENCODERS

_WRAPPERS = ("params_ema", "params", "state_dict", "model")
_OWN_FORMAT = "srflow-sdk"
ENCODER_NOTE = "encoder"
"""Note: the file of the encoder that a network's training started from, "" if it started from
scratch."""
SAMPLING_NOTES = ("default_tau", "auto_tau", "smoothed")
"""Notes of a bundle's manifest, so that an export of a network that was trained further draws as
it."""
AnyPath = str | os.PathLike[str]
Model = TypeVar("Model", bound=nn.Module)


def load_checkpoint(
    path: AnyPath,
    *,
    stacked_blocks: tuple[int, ...] | None = None,
) -> SRFlow | Encoder:
    """Load the network in a checkpoint file: float32, on the CPU, in eval mode.

    Args:
        path: a published SRFlow `.pth` (also wrapped in params, params_ema, state_dict or prefixed
            module.), an RRDB or ESRGAN-family `.pth` or `.safetensors` (gives an RRDB, the
            encoder-only baseline), or our `.safetensors`. ESRGAN's released files have the keys of
            SRFlow's encoders but another skip; that with which the network works is taken.
        stacked_blocks: RRDB blocks that condition the flow, of which neither keys nor shapes tell;
            None: the usual ones.

    Raises:
        CheckpointError: for files that are missing, truncated, unsafe or hold another architecture.
    """
    return _open_checkpoint(path, stacked_blocks)[0]


def load_with_notes(
    path: AnyPath,
    *,
    stacked_blocks: tuple[int, ...] | None = None,
) -> tuple[SRFlow | Encoder, dict[str, Any]]:
    """Load a checkpoint as :func:`load_checkpoint` does, with the notes that were saved with it.

    The notes are empty for files that are not ours.

    Raises:
        CheckpointError: also for notes that are not JSON.
    """
    model, metadata = _open_checkpoint(path, stacked_blocks)
    try:
        notes = json.loads(metadata.get("notes", "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: the notes in its metadata are not JSON: {_first_line(error)}"
        ) from error
    return model, notes if isinstance(notes, dict) else {}


def read_lr_reduction(notes: Mapping[str, Any]) -> Reduction:
    """How the LR images that a checkpoint was trained on were made.

    Bicubic if its notes do not say (published files).

    Raises:
        CheckpointError: for a reduction that this version does not know.
    """
    name = notes.get("reduction", "bicubic")
    if name not in get_args(Reduction):
        raise CheckpointError(
            f"the checkpoint's notes name the reduction {name!r}, not one of "
            f"{', '.join(get_args(Reduction))}: pip install -U srflow-sdk"
        )
    return cast(Reduction, name)


def default_tau_of(notes: Mapping[str, Any]) -> tuple[float | None, bool]:
    """The default τ of the bundle that a training began with, and whether it was auto.

    None if the notes do not say.
    """
    tau, auto, _ = (notes.get(name) for name in SAMPLING_NOTES)
    if not isinstance(tau, int | float) or not 0 <= tau <= 1:
        return None, False
    return float(tau), auto is True


def _open_checkpoint(
    path: AnyPath, stacked_blocks: tuple[int, ...] | None
) -> tuple[SRFlow | Encoder, dict[str, str]]:
    """The network and the file's metadata."""
    state, metadata = read_tensors(Path(path))
    try:
        if metadata.get("format") == _OWN_FORMAT:
            if stacked_blocks is not None:
                raise ArgumentError("the file itself describes its network: omit the blocks")
            return _load_own(state, metadata), metadata
        if any(key.startswith("flowUpsamplerNet.") for key in state):
            network = detect_srflow(state, stacked_blocks=stacked_blocks)
            return _fill_missing(
                lambda: SRFlow(network),
                state,
                published_srflow_name(network),
            ), metadata
        fields, name_of = detect_rrdb(state)
        model = _fill_missing(lambda: RRDB(**fields), state, name_of)
        if name_of is published_rrdb_name:
            fit_trunk_skip(model)
        return model, metadata
    except KeyError as error:
        raise CheckpointError(
            f"{path}: tensor {error} is missing: the file is incomplete or holds another network"
        ) from error
    except (CheckpointError, ArgumentError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (
        ArithmeticError,
        LookupError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError(
            f"{path}: its network cannot be built ({_first_line(error)})"
        ) from error


def load_encoder(path: AnyPath) -> Encoder:
    """Load the LR encoder of any checkpoint that :func:`load_checkpoint` opens.

    Raises:
        CheckpointError.
    """
    model = load_checkpoint(path)
    return model if isinstance(model, Encoder) else model.encoder


def save_checkpoint(
    path: AnyPath,
    model: SRFlow | Encoder,
    *,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write our `.safetensors` atomically, with the network's config and notes as metadata."""
    if isinstance(model, SRFlow):
        network = {"kind": "srflow", **model.config.to_dict()}
    else:
        network = {"kind": model.kind, **model.settings()}
    metadata = {
        "format": _OWN_FORMAT,
        "network": json.dumps(network),
        "notes": json.dumps(dict(notes or {})),
    }
    state = {}
    for name, tensor in model.state_dict().items():
        state[name] = tensor.detach().cpu().contiguous()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), safetensors.torch.save(state, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a file by name, and its safetensors metadata. Raises: CheckpointError."""
    if not path.is_file():
        raise CheckpointError(
            f"{path}: {'is a folder: name a file in it' if path.is_dir() else 'no such file'}"
        )
    try:
        with path.open("rb") as opened:
            start = opened.read(9)
        if len(start) == 9 and start[8:] == b"{":  # an 8-byte header length, then JSON
            with safetensors.safe_open(path, framework="pt") as file:
                names = list(file.keys())
                return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
        # a zip archive, or in old versions of torch a pickle
        if not start.startswith((b"PK", b"\x80")):
            raise CheckpointError(
                f"{path} is not a checkpoint: it is neither a .pth nor a .safetensors file"
            )
        with warnings.catch_warnings():
            # torch's words about odd pickles, which it then reads or refuses
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # the rest of torch's text advises to execute the file
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds more than tensors ({named[1]})" if named else "holds more than tensors"
        raise CheckpointError(
            f"{path}: refused: the file {what}; nothing in it was executed. Save only the "
            "network's state_dict"
        ) from error
    # damaged files make torch's reader raise nearly anything, struct.error for one
    except Exception as error:
        raise CheckpointError(
            f"{path}: the checkpoint is damaged, perhaps cut off: copy or save it again "
            f"({_first_line(error)[:80]})"
        ) from error
    return _find_state_dict(path, content), {}


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _find_state_dict(path: Path, content: object) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}; a state dict (name → tensor) was expected"
        )
    state = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"{path}: entry {name!r} is a {type(tensor).__name__}; only tensors were expected"
            )
        # a quantised tensor has no floating-point type
        if tensor.layout != torch.strided or not tensor.is_floating_point():
            raise CheckpointError(
                f"{path}: tensor {name!r} is not an ordinary floating-point tensor"
            )
        state[name.removeprefix("module.")] = tensor
    return state


def _load_own(state: dict[str, Tensor], metadata: Mapping[str, str]) -> SRFlow | Encoder:
    try:
        network = json.loads(metadata["network"])
        kind = network.pop("kind")
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the network's description in the metadata cannot be read ({error})"
        ) from error
    if kind == "srflow":
        config = SRFlowConfig.from_dict(network)
        return _fill_missing(lambda: _collapse_as_saved(SRFlow(config), state), state, None)
    if kind not in ENCODERS:
        raise CheckpointError(
            f"it holds a network of kind {kind!r:.40}, which this version does not know"
        )
    # for its checks: the fields have the same ranges
    SRFlowConfig.of_variant("bounded", encoder=kind, **network)
    return _fill_missing(
        lambda: _collapse_as_saved(build_encoder(kind, network), state), state, None
    )


def _collapse_as_saved(model: Model, state: Mapping[str, Tensor]) -> Model:
    """Collapse the kernels of a plain encoder if the file's are."""
    encoder = getattr(model, "encoder", model)
    is_composed = any(name.endswith("conv_first.middle") for name in state)
    if isinstance(encoder, PlainEncoder) and not is_composed:
        encoder.collapse()
    return model


def _fill_missing(
    build: Callable[[], Model],
    state: Mapping[str, Tensor],
    name_of: Callable[[str], str | None] | None,
) -> Model:
    """Build the network with the file's tensors, after comparing names and shapes.

    Args:
        name_of: our tensor names → the file's; None if they are the same.
    """
    with torch.device("meta"):
        model = build()
    expected = model.state_dict()
    known: set[str | None]
    if name_of is None:
        ours = {name: state[name] for name in expected}
        known = set(expected)
    else:
        ours = from_published(state, expected, name_of)
        known = {name_of(name) for name in expected}
    others = [name for name in state if name not in known]
    unknown = [name for name in others if not name.startswith("flowUpsamplerNet.f.")]
    if unknown:
        raise CheckpointError(
            f"tensor {unknown[0]!r} belongs to another network: {len(unknown)} tensors are unknown"
        )
    for name, tensor in expected.items():
        if ours[name].shape != tensor.shape:
            raise CheckpointError(
                f"tensor {name} is {list(ours[name].shape)}; this network has {list(tensor.shape)}"
            )
    copies = {name: ours[name].to(tensor.dtype, copy=True) for name, tensor in expected.items()}
    model.load_state_dict(copies, assign=True)
    for name, tensor in model.state_dict().items():
        if not name.endswith("mix.weight"):
            continue
        log_det = torch.linalg.slogdet(tensor.double()).logabsdet
        if not log_det.isfinite():
            raise CheckpointError(
                f"tensor {name} has no inverse: the training run that wrote the file diverged"
            )
    return model.eval()
