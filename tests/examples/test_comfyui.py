"""examples/comfyui in a stand-in for ComfyUI: loaded as a copied folder, declared by the protocol,
run as graphs."""

from __future__ import annotations

import importlib.util
import inspect
import json
import shutil
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler
from tests.sdk.tiny_bundle import write_tiny_bundle

torch = pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = EXAMPLES / "comfyui" / "srflow"
OPTIONS = {"default", "min", "max", "step", "control_after_generate", "tooltip"}


class LoadImage:
    """ComfyUI's own: the image of a file. Here, the one that the test put under its name."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load"
    images: dict = {}  # noqa: RUF012

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"image": (list(cls.images),)}}

    def load(self, image):
        return self.images[image], None


class PreviewImage:
    """ComfyUI's own output node."""

    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"images": ("IMAGE",)}}

    def show(self, images):
        return {"ui": images}


class ComfyUI:
    """What ComfyUI does, by its documentation: imports each folder, runs what the output nodes of a
    graph need, and keeps the results of nodes whose inputs stay the same."""

    def __init__(self, custom_nodes):
        self.nodes = {"LoadImage": LoadImage, "PreviewImage": PreviewImage}
        self.kept = {}
        for folder in custom_nodes.iterdir():
            name = str(folder).replace(".", "_x_")
            spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self.nodes |= module.NODE_CLASS_MAPPINGS
            self.names = module.NODE_DISPLAY_NAME_MAPPINGS

    def run(self, graph):
        """What the output nodes show, by their keys. An error of a node comes out as it is."""
        with torch.inference_mode():
            return {
                key: self.result(graph, key)[1]["ui"]
                for key, node in graph.items()
                if getattr(self.nodes[node["class_type"]], "OUTPUT_NODE", False)
            }

    def result(self, graph, key):
        """What decides a node's result, and the result."""
        node = graph[key]
        values = {}
        signature = [graph[key]["class_type"]]
        for name, value in sorted(node["inputs"].items()):
            origin = value
            if isinstance(value, list):
                origin, results = self.result(graph, value[0])
                value, origin = results[value[1]], (origin, value[1])
            values[name] = value
            signature.append((name, origin))
        kind = self.nodes[node["class_type"]]
        place = tuple(signature)
        if place not in self.kept:
            self.kept[place] = getattr(kind(), kind.FUNCTION)(**values)
            for returned, result in zip(kind.RETURN_TYPES, self.kept[place], strict=False):
                if returned == "IMAGE" and kind is not LoadImage:
                    assert (result.dtype, result.ndim, result.device.type) == (
                        torch.float32,
                        4,
                        "cpu",
                    )
                    assert float(result.min()) >= 0
                    assert float(result.max()) <= 1
        return place, self.kept[place]


@pytest.fixture
def comfy_ui(tmp_path, monkeypatch):
    before = set(sys.modules)
    shutil.copytree(
        FOLDER, tmp_path / "custom_nodes" / "srflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(LoadImage, "images", {})
    yield ComfyUI(tmp_path / "custom_nodes")
    for name in set(sys.modules) - before:
        if name.startswith(str(tmp_path).replace(".", "_x_")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("comfyui") / "tiny.srflow")


@pytest.fixture(scope="module")
def image():
    """Two pictures as one IMAGE, 2×20×24×3."""
    with Image.open(EXAMPLES / "photos" / "cat.png") as cat:
        pixels = np.asarray(cat.convert("RGB"), np.float32) / 255
    return torch.from_numpy(np.stack([pixels[40:60, 60:84], pixels[60:80, 70:94]]))


def load(bundle="x4-small", path=""):
    inputs = {"bundle": bundle, "device": "cpu", "path": str(path)}
    return {"class_type": "SRFlowLoad", "inputs": inputs}


def drawn_by(kind, path="", **inputs):
    """A graph of one node between *Load* and a preview."""
    drawing = {"temperature": "default", "tau": 0.7, "seed": 0, "samples": 1, "consistent": False}
    defaults = {
        "Upscale": drawing,
        "Encode": {},
        "Restore": {"over": "auto", "temperature": "default", "tau": 0.7},
    }
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": load(path=path),
        "3": {
            "class_type": f"SRFlow{kind}",
            "inputs": {"model": ["2", 0], "image": ["1", 0], **defaults[kind], **inputs},
        },
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }


def run(comfy_ui, image, graph):
    LoadImage.images["photo.png"] = image
    return comfy_ui.run(graph)["4"]


def test_the_nodes_are_declared_as_comfyui_asks(comfy_ui):
    ours = {name: node for name, node in comfy_ui.nodes.items() if name.startswith("SRFlow")}
    assert {name.removeprefix("SRFlow") for name in ours} == {
        "Load",
        "Upscale",
        "Encode",
        "Sample",
        "Restore",
    }
    assert set(comfy_ui.names) == set(ours)
    made = {kind for node in ours.values() for kind in node.RETURN_TYPES}
    for node in ours.values():
        inputs = node.INPUT_TYPES()
        declared = {**inputs["required"], **inputs.get("optional", {})}
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        assert (node.CATEGORY, node.DESCRIPTION[-1]) == ("SRFlow", ".")
        for given in (declared, inputs["required"]):
            inspect.signature(getattr(node(), node.FUNCTION)).bind(**given)
        for place, (kind, *more) in declared.items():
            options = more[0] if more else {}
            assert set(options) <= OPTIONS, place
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= options["default"] <= options["max"]
            else:
                assert isinstance(kind, list) or kind in {"STRING", "BOOLEAN", *made}, place


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({}, {}),
        (
            {"temperature": "tau", "tau": 0.3, "seed": (1 << 64) - 1},
            {"tau": 0.3, "seed": (1 << 64) - 1},
        ),
        ({"temperature": "auto", "tau": 0.3, "seed": 5}, {"tau": "auto", "seed": 5}),
        ({"consistent": True}, {"consistent": True}),
    ],
    ids=str,
)
def test_a_batch_is_drawn_picture_by_picture_as_the_sdk_draws_it(
    comfy_ui, image, tiny, inputs, options
):
    made = run(comfy_ui, image, drawn_by("Upscale", tiny, samples=2, **inputs))
    with Upscaler(tiny, device="cpu") as up:
        wanted = [
            up.upscale(picture, sample=sample, **options) for picture in image for sample in (0, 1)
        ]
    assert torch.equal(made, torch.stack(wanted))


def test_the_workflow_encodes_once_however_often_it_samples(comfy_ui, image, monkeypatch):
    encoded = []
    encode = Upscaler.encode
    monkeypatch.setattr(
        Upscaler, "encode", lambda *given, **named: encoded.append(given) or encode(*given, **named)
    )
    graph = json.loads((FOLDER / "workflow_api.json").read_text(encoding="utf-8"))
    graph["2"]["inputs"]["device"] = "cpu"
    LoadImage.images["example.png"] = image[:1]
    shown = comfy_ui.run(graph)
    with Upscaler(device="cpu") as up:
        assert torch.equal(shown["6"][0], up.upscale(image[0], tau=0.0))
        assert len(shown["7"]) == 3
        assert torch.equal(shown["7"][2], up.upscale(image[0], tau=0.8, sample=2, consistent=True))
        before = len(encoded)
        graph["4"]["inputs"]["tau"] = 0.4
        assert torch.equal(comfy_ui.run(graph)["6"][0], up.upscale(image[0], tau=0.4))
    assert len(encoded) == before == 1


def test_restoring_keeps_the_size_and_is_the_sdks(comfy_ui, image):
    noisy = (
        image[:1] + 0.1 * torch.randn(image[:1].shape, generator=torch.Generator().manual_seed(1))
    ).clamp(0, 1)
    made = run(comfy_ui, noisy, drawn_by("Restore"))
    smoother = run(comfy_ui, noisy, drawn_by("Restore", over="local", temperature="tau", tau=0.5))
    assert made.shape == noisy.shape
    with Upscaler("x4-small", device="cpu") as up:
        assert torch.equal(made[0], up.restore(noisy[0]))
        assert torch.equal(smoother[0], up.restore(noisy[0], over="local", tau=0.5))
    assert not torch.equal(made, noisy)


class PressedCancel(Exception):  # noqa: N818
    """Stands for ComfyUI's own, which the SDK does not know."""


class Comfy:
    """ComfyUI's package as nodes see it. press_at: the update of the bar at which somebody presses
    Cancel.

    bar_looks: the bar itself raises, as ComfyUI's does at each update, if nobody else saw the
        button before.
    """

    def __init__(self, monkeypatch, press_at=0, *, bar_looks=False):
        self.seen = []
        self.press_at = press_at
        self.pressed = threading.Event()
        self.bar_looks = bar_looks
        comfy, utils, management = (
            ModuleType(f"comfy{name}") for name in ("", ".utils", ".model_management")
        )
        comfy.utils = utils
        comfy.model_management = management
        utils.ProgressBar = self.bar
        management.throw_exception_if_processing_interrupted = self.throw
        for module in (comfy, utils, management):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def bar(self, total):
        assert total >= 1
        return self

    def update_absolute(self, value, total=None, preview=None):
        self.seen.append(value / total)
        if len(self.seen) == self.press_at:
            self.pressed.set()
            if self.bar_looks:
                self.throw()
            for thread in threading.enumerate():
                if thread.name == "srflow-interrupt":
                    thread.join(60)  # it ends once it has seen the button

    def throw(self):
        if self.pressed.is_set():
            self.pressed.clear()
            raise PressedCancel


def test_progress_rises_over_the_whole_batch(comfy_ui, image, tiny, monkeypatch):
    comfy = Comfy(monkeypatch)
    run(comfy_ui, image, drawn_by("Upscale", tiny, samples=3))
    assert comfy.seen == sorted(comfy.seen)
    assert len(set(comfy.seen)) == 6
    assert comfy.seen[-1] == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "srflow-interrupt"]


@pytest.mark.parametrize("bar_looks", [False, True], ids=["watched", "at the bar"])
@pytest.mark.parametrize(
    ("samples", "press_at"), [(3, 1), (3, 5), (1, 4)], ids=["first", "second", "at the end"]
)
def test_cancel_ends_the_run_with_comfyuis_own_error(
    comfy_ui, image, tiny, monkeypatch, samples, press_at, bar_looks
):
    comfy = Comfy(monkeypatch, press_at, bar_looks=bar_looks)
    with pytest.raises(PressedCancel):
        run(comfy_ui, image, drawn_by("Upscale", tiny, samples=samples))
    assert len(comfy.seen) == press_at
    assert not comfy.pressed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "srflow-interrupt"]
