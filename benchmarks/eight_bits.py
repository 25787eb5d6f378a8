"""What 8-bit convolutions of the encoder cost in accuracy, simulated on the processor.

    python benchmarks/eight_bits.py BUNDLE [PHOTO ...]

Each convolution but the first takes weights rounded by output channel, and activations rounded by tensor, symmetric as
TensorRT wants it; it adds up in float32. Printed is the PSNR against float32, of pictures of the exporter's patches or
of photographs, which are made smaller first.
"""

import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from srflow_export.parity.photographs import photo_patches
from srflow_export.quantisation import activation_ranges, calibration_crops
from srflow_sdk import Bundle
from srflow_sdk.latents.random_field import window_noise

KINDS = {"int8": (TensorProto.INT8, 127.0), "fp8 (E4M3)": (TensorProto.FLOAT8E4M3FN, 448.0)}


def rounded(model: onnx.ModelProto, dtype: int, most: float, multiple: int) -> bytes:
    """A float32 encoder, with what its convolutions take rounded to a type."""
    ranges, nodes, first = activation_ranges(model, calibration_crops(multiple)), list[onnx.NodeProto](), True
    weights = {one.name: numpy_helper.to_array(one).astype(np.float32) for one in model.graph.initializer}
    model.opset_import[0].version = 19  # the first with FP8
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in weights:  # stored in half
            weights[node.output[0]] = weights[node.input[0]]
        for place, how in enumerate(({}, {"axis": 0})) if node.op_type == "Conv" and not first else ():
            name, new = node.input[place], f"{node.output[0]}_{place}"
            largest = np.abs(weights[name]).max(axis=(1, 2, 3)) if how else np.abs(ranges[name]).max()
            step = (np.asarray(largest, np.float32) / np.float32(most)).clip(1e-12)
            zero = helper.make_tensor(f"{new}_zero", dtype, step.shape, np.zeros(step.size))
            model.graph.initializer.extend([numpy_helper.from_array(step, f"{new}_step"), zero])
            for word, source, target in (("Quantize", name, f"{new}_low"), ("Dequantize", f"{new}_low", new)):
                nodes.append(helper.make_node(f"{word}Linear", [source, f"{new}_step", zero.name], [target], **how))
            node.input[place] = new
        first &= node.op_type != "Conv"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def main() -> None:
    """Print a line for each kind of numbers and temperature."""
    bundle, lrs = Bundle.open(sys.argv[1]), list[np.ndarray]()
    manifest = bundle.manifest
    for path in sys.argv[2:]:
        pixels = np.asarray(Image.open(path).convert("RGB").reduce(manifest.scale), np.float32)[:128, :128] / 255
        lrs.append(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    lrs = lrs or [patch.lr for patch in photo_patches(manifest.size_multiple)]
    plainly = onnxruntime.SessionOptions()
    plainly.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # else FP8 is wrong
    exact, sampler = (onnxruntime.InferenceSession(bundle.file(name)) for name in ("encoder.onnx", "sampler.onnx"))

    def picture(encoder: onnxruntime.InferenceSession, lr: np.ndarray, tau: float) -> np.ndarray:
        place = {"scale": manifest.scale, "seed": 0, "sample": 0, "height": lr.shape[2], "width": lr.shape[3]}
        noise = window_noise(manifest.latent_levels, **place).items()
        inputs = {f"noise_level{level}": array[None] for level, array in noise}
        inputs["tau"], names = np.array([tau], np.float32), [output.name for output in encoder.get_outputs()]
        inputs |= zip(names, encoder.run(None, {"lr": lr}), strict=True)
        return np.clip(sampler.run(["sr"], inputs)[0], 0, 1).astype(np.float64)

    for kind, (dtype, most) in KINDS.items():
        encoder = onnx.load(bundle.file("encoder.onnx"))
        low = onnxruntime.InferenceSession(rounded(encoder, dtype, most, manifest.size_multiple), plainly)
        for tau in (0.0, manifest.default_tau):
            errors = [np.mean((picture(low, lr, tau) - picture(exact, lr, tau)) ** 2) for lr in lrs]
            print(f"{kind}, tau {tau:g}: {-10 * np.log10(max(errors)):.1f} to {-10 * np.log10(min(errors)):.1f} dB")


if __name__ == "__main__":
    main()
