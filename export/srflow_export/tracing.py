"""A torch module as an ONNX graph, operator by operator.

make_fx traces the module with the shapes of an example; each operator that it finds becomes one or
two ONNX nodes. The example's batch, height and width stay out of the graph: dimensions that an
operator does not change are copied, and a reshape may infer one. Channels, dimension 1, are
constants. The graphs here need two dozen operators; unknown ones are refused, and arguments that
are not translated show in the gate. torch.onnx.export knows them all, but takes several times as
long, most of it in decompositions and clean-up passes that these graphs do not need. torch.export
finds the same operators, and takes more than twice as long, for guards of sizes and for a program
that nobody runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from operator import getitem
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from srflow_sdk.errors import ExportError

Axes = Mapping[str, Sequence[str | int]]
"""Dimensions of a graph's inputs and outputs by name; those that vary have names."""

_OwnTranslation = Callable[[dict[str, Any], Tensor], onnx.NodeProto]
_aten: Any = torch.ops.aten
_TYPES = {
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.int64: TensorProto.INT64,
}


def onnx_graph(
    module: nn.Module,
    example: Mapping[str, Tensor],
    *,
    inputs: Axes,
    outputs: Axes,
    opset: int,
    nodes: Mapping[Any, _OwnTranslation],
) -> onnx.ModelProto:
    """Trace a module of tensors, in the order of `inputs`, that returns those of `outputs`.

    Initializers are named as in the module's state_dict. nodes: for operators of the caller's own,
    what turns their arguments (names instead of tensors) and a tensor like their result into a node
    without an output. Raises: ExportError for an operator that is not known here.
    """
    module.eval()
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    traced = _trace(module, state, [example[name] for name in inputs])
    graph = _Graph(traced, nodes)
    placeholders = [node for node in traced.nodes if node.op == "placeholder"]
    for node, target in zip(placeholders, (*state, *inputs), strict=True):
        graph.names[node.name] = target
        if target in state and node.users:
            graph.constants[target] = _tensor(target, state[target])
    results = graph.run()
    graph.rename(dict(zip(results, outputs, strict=True)))
    types = {name: example[name].dtype for name in inputs} | dict(
        zip(outputs, graph.result_types, strict=True)
    )
    values = {
        name: helper.make_tensor_value_info(name, _TYPES[types[name]], list(axes))
        for name, axes in (*inputs.items(), *outputs.items())
    }
    proto = helper.make_graph(
        graph.nodes,
        "main",
        [values[name] for name in inputs],
        [values[name] for name in outputs],
    )
    proto.initializer.extend(graph.constants.values())
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _trace(module: nn.Module, state: Mapping[str, Tensor], example: Sequence[Tensor]) -> fx.Graph:
    """Trace a module's operators as a function of the values of its state and of its inputs."""

    def call_module(*tensors: Tensor) -> Any:
        return functional_call(
            module,
            dict(zip(state, tensors, strict=False)),
            tensors[len(state) :],
        )

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return make_fx(call_module, tracing_mode="fake", pre_dispatch=True)(
            *state.values(), *example
        ).graph


class _Graph:
    """The ONNX nodes of a traced graph.

    names: of a traced value's tensor, by the value's name. constants: initializers by name.
    """

    def __init__(self, traced: fx.Graph, own: Mapping[Any, _OwnTranslation]) -> None:
        self.traced = traced
        self.own = own
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.names: dict[str, str] = {}
        self.parts: dict[str, list[str]] = {}
        self.made: dict[str, str] = {}
        self.result_types: list[torch.dtype] = []

    def run(self) -> list[str]:
        """Translate all nodes; returns the names of the results."""
        for node in self.traced.nodes:
            if node.op == "call_function":
                self._translate(node)
        results: Any = self.traced.output_node().args[0]
        self.result_types = [result.meta["val"].dtype for result in results]
        made = {name for node in self.nodes for name in node.output}
        names: list[str] = []
        for index, result in enumerate(results):
            name = self.names[result.name]
            own = name in made and name not in names  # else: an input, or another result
            names.append(name if own else self.add("Identity", [name], f"result.{index}"))
        return names

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename tensors."""
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node, unless there is an equal one; returns the node's output."""
        key = repr((op, inputs, attributes))
        if key not in self.made:
            self.nodes.append(
                helper.make_node(op, list(inputs), [output], name=output, **attributes)
            )
            self.made[key] = output
        return self.made[key]

    def constant(self, values: Tensor) -> str:
        """The name of an initializer with these values, the same for equal ones."""
        text = (
            "_".join(map(str, values.flatten().tolist()))
            if values.numel() < 8
            else f"{len(self.constants)}"
        )
        kind = str(values.dtype).removeprefix("torch.")
        name = f"const_{kind}_{'x'.join(map(str, values.shape))}_{text}"
        if name not in self.constants:
            self.constants[name] = _tensor(name, values)
        return name

    def integers(self, *values: int) -> str:
        """The name of a list of integers."""
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def operand(self, value: Any, *, like: Tensor) -> str:
        """Return the name of an operand: a tensor's, or a number's in another operand's type."""
        return (
            self.names[value.name]
            if isinstance(value, fx.Node)
            else self.constant(like.new_tensor(value))
        )

    def _translate(self, node: fx.Node) -> None:
        if node.target is getitem:
            arguments: Any = node.args
            whole, index = arguments
            self.names[node.name] = self.parts[whole.name][index]
            return
        arguments = _arguments(node)
        if node.target in self.own:
            named = {
                key: self.names[each.name] if isinstance(each, fx.Node) else each
                for key, each in arguments.items()
            }
            made = self.own[node.target](named, node.meta["val"])
            made.output.append(node.name)
            made.name = node.name
            self.nodes.append(made)
            self.names[node.name] = node.name
            return
        translate = _OPERATORS.get(node.target)
        if translate is None:
            raise ExportError(
                f"the graph uses {node.target}, which srflow_export.tracing does not know: add it "
                "there"
            )
        result = translate(self, node, arguments)
        if result is not None:
            self.names[node.name] = result


def _tensor(name: str, values: Tensor) -> onnx.TensorProto:
    raw = (
        values.detach().contiguous().view(-1).view(torch.uint8)
        if values.dim()
        else values.reshape(1).view(torch.uint8)
    )
    return TensorProto(
        name=name,
        data_type=_TYPES[values.dtype],
        dims=values.shape,
        raw_data=raw.numpy().tobytes(),
    )


def _arguments(node: fx.Node) -> dict[str, Any]:
    """A call's arguments by name, with defaults."""
    schema = node.target._schema  # type: ignore[union-attr]
    given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
    defaults = {
        argument.name: argument.default_value
        for argument in schema.arguments
        if argument.has_default_value()
    }
    return {**defaults, **given, **node.kwargs}


_Translation = Callable[[_Graph, fx.Node, dict[str, Any]], str | None]


def _shape(node: fx.Node) -> list[int]:
    return list(node.meta["val"].shape)


def _source(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    return graph.names[arguments["self"].name]


def _simple(op: str) -> _Translation:
    def translate(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
        return graph.add(op, [_source(graph, node, arguments)], node.name)

    return translate


def _arithmetic(op: str) -> _Translation:
    def translate(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
        value = node.meta["val"]
        operands = [graph.operand(arguments[name], like=value) for name in ("self", "other")]
        return graph.add(op, operands, node.name)

    return translate


def _leaky_relu(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    slope = float(arguments["negative_slope"])
    return graph.add("LeakyRelu", [_source(graph, node, arguments)], node.name, alpha=slope)


def _conv2d(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    """Translate a convolution, with the padding of its input if that is an operator.

    Torch pads unequally so.
    """
    source = arguments["input"]
    weight = arguments["weight"]
    bias = arguments["bias"]
    vertical, horizontal = arguments["padding"]
    pads = [vertical, horizontal, vertical, horizontal]
    if source.target is _aten.pad.default:
        padding = _arguments(source)
        left, right, top, bottom = padding["pad"]
        pads = [sum(pair) for pair in zip(pads, (top, left, bottom, right), strict=True)]
        source = padding["self"]
    return graph.add(
        "Conv",
        [graph.names[each.name] for each in (source, weight, bias) if each is not None],
        node.name,
        pads=pads,
        strides=list(arguments["stride"]),
        dilations=list(arguments["dilation"]),
        group=arguments["groups"],
        kernel_shape=_shape(weight)[2:],
    )


def _cat(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    names = [graph.names[each.name] for each in arguments["tensors"]]
    return graph.add("Concat", names, node.name, axis=arguments["dim"])


def _stack(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    axis = graph.integers(arguments["dim"])
    parts = []
    for index, each in enumerate(arguments["tensors"]):
        parts.append(graph.add("Unsqueeze", [graph.names[each.name], axis], f"{node.name}.{index}"))
    return graph.add("Concat", parts, node.name, axis=arguments["dim"])


def _chunk(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> None:
    count = arguments["chunks"]
    axis = arguments["dim"]
    graph.parts[node.name] = parts = [f"{node.name}.{index}" for index in range(count)]
    whole = _source(graph, node, arguments)
    split = helper.make_node("Split", [whole], parts, name=node.name, axis=axis, num_outputs=count)
    graph.nodes.append(split)


def _slice(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str | None:
    axis = arguments["dim"]
    start = arguments["start"] or 0
    end = arguments["end"]
    source = _source(graph, node, arguments)
    size = _shape(arguments["self"])[axis]
    if end is None or end >= size:
        end = 2**63 - 1
    if start == 0 and end > size and arguments["step"] == 1:
        return source
    limits = [graph.integers(each) for each in (start, end, axis, arguments["step"])]
    return graph.add("Slice", [source, *limits], node.name)


def _reshape(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    """Copy dimensions that stay, take the channels' as it is, and infer the one that is left."""
    source = arguments["self"]
    before = _shape(source)
    after = _shape(node)
    sizes = [
        0 if index < len(before) and before[index] == size else size
        for index, size in enumerate(after)
    ]
    sizes = [-1 if size > 1 and index != 1 else size for index, size in enumerate(sizes)]
    return graph.add("Reshape", [graph.names[source.name], graph.integers(*sizes)], node.name)


def _sum(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    axes = graph.integers(*arguments["dim"])
    return graph.add(
        "ReduceSum",
        [_source(graph, node, arguments), axes],
        node.name,
        keepdims=int(arguments["keepdim"]),
    )


def _unsqueeze(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    return graph.add(
        "Unsqueeze",
        [_source(graph, node, arguments), graph.integers(arguments["dim"])],
        node.name,
    )


def _to(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    source = arguments["self"]
    dtype = node.meta["val"].dtype
    if source.meta["val"].dtype == dtype:
        return graph.names[source.name]
    return graph.add("Cast", [graph.names[source.name]], node.name, to=_TYPES[dtype])


def _full(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    value = node.meta["val"]
    return graph.constant(torch.full(value.shape, arguments["fill_value"], dtype=value.dtype))


def _resize(mode: str, **attributes: str) -> _Translation:
    def translate(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
        source = arguments["input"]
        factors = [
            after / before for before, after in zip(_shape(source), _shape(node), strict=True)
        ]
        scales = graph.constant(torch.tensor(factors, dtype=torch.float32))
        return graph.add(
            "Resize",
            [graph.names[source.name], "", scales],
            node.name,
            mode=mode,
            **attributes,
        )

    return translate


def _avg_pool(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    kernel = list(arguments["kernel_size"])
    stride = list(arguments["stride"] or arguments["kernel_size"])
    return graph.add(
        "AveragePool",
        [_source(graph, node, arguments)],
        node.name,
        kernel_shape=kernel,
        strides=stride,
    )


def _pixel_shuffle(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    factor = arguments["upscale_factor"]
    return graph.add(
        "DepthToSpace",
        [_source(graph, node, arguments)],
        node.name,
        blocksize=factor,
        mode="CRD",
    )


def _pixel_unshuffle(graph: _Graph, node: fx.Node, arguments: dict[str, Any]) -> str:
    """Make each channel a picture, as ONNX puts a cell's pixels before the channels.

    A Gather of SpaceToDepth's channels would be the same; OpenVINO 2024.6 and 2026.4.1 compute it
    wrongly.
    """
    source = arguments["self"]
    factor = arguments["downscale_factor"]
    alone, together = ([-1, channels, 0, 0] for channels in (1, _shape(source)[1] * factor**2))
    apart = graph.add(
        "Reshape",
        [graph.names[source.name], graph.constant(torch.tensor(alone))],
        f"{node.name}.apart",
    )
    cells = graph.add("SpaceToDepth", [apart], f"{node.name}.cells", blocksize=factor)
    return graph.add("Reshape", [cells, graph.constant(torch.tensor(together))], node.name)


_OPERATORS: dict[Any, _Translation] = {
    _aten.add.Tensor: _arithmetic("Add"),
    _aten.alias.default: _source,
    _aten.avg_pool2d.default: _avg_pool,
    _aten.cat.default: _cat,
    _aten.chunk.default: _chunk,
    _aten.conv2d.default: _conv2d,
    _aten.div.Tensor: _arithmetic("Div"),
    _aten.exp.default: _simple("Exp"),
    _aten.leaky_relu.default: _leaky_relu,
    _aten.log.default: _simple("Log"),
    _aten.mul.Tensor: _arithmetic("Mul"),
    _aten.neg.default: _simple("Neg"),
    _aten.new_full.default: _full,
    _aten.pad.default: lambda *_: None,  # the convolution that follows has it
    _aten.pixel_shuffle.default: _pixel_shuffle,
    _aten.pixel_unshuffle.default: _pixel_unshuffle,
    _aten.reciprocal.default: _simple("Reciprocal"),
    _aten.relu.default: _simple("Relu"),
    _aten.reshape.default: _reshape,
    _aten.sigmoid.default: _simple("Sigmoid"),
    _aten.slice.Tensor: _slice,
    _aten.stack.default: _stack,
    _aten.sum.dim_IntList: _sum,
    _aten.sub.Tensor: _arithmetic("Sub"),
    _aten.tanh.default: _simple("Tanh"),
    _aten.to.dtype: _to,
    _aten.unsqueeze.default: _unsqueeze,
    _aten.upsample_bilinear2d.vec: _resize("linear", coordinate_transformation_mode="half_pixel"),
    _aten.upsample_nearest2d.vec: _resize(
        "nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
}
