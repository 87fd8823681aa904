"""A small builder of ONNX graphs that runs what it has built so far: layers see the shapes and the statistics of real data.

A skeleton is a function that takes a `Net`, adds layers and names its outputs. `@skeleton` puts it into `SKELETONS`.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from data import Data
from onnx import TensorProto, helper, numpy_helper

# Samples of calibration data, and those of them that layers are scaled by while the net is built.
SAMPLES = 48
SEEN = 12
# The newest IR version of the ONNX of each opset that is used here.
IR = {11: 6, 13: 7, 15: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 23: 11}

ort.set_default_logger_severity(4)


@dataclass
class Skeleton:
    """A net of the gauntlet: how it is made and what is known of it."""

    name: str
    family: str
    make: Callable
    settings: dict = field(default_factory=dict)
    # Why `--macs` and `--params` change nothing or little here; empty for most.
    held: str = ""
    # How far outputs may differ by rounding: more in few bits.
    coarse: float = 0.0
    # Why no repair changes anything.
    unrepaired: str = ""

    def build(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        net = Net(self.name, **self.settings)
        made = self.make(net)
        model = made if isinstance(made, onnx.ModelProto) else net.model()
        onnx.checker.check_model(model, full_check=True)
        return model, net.calibration


SKELETONS: dict[str, Skeleton] = {}


def skeleton(held: str = "", coarse: float = 0.0, unrepaired: str = "", **settings):
    """Registers a function as a skeleton; `settings` go to its `Net`."""

    def add(make: Callable) -> Callable:
        name = make.__name__
        if name in SKELETONS:
            raise ValueError(f"two skeletons are called {name}")
        SKELETONS[name] = Skeleton(name, make.__module__.rsplit(".", 1)[-1], make, settings, held, coarse, unrepaired)
        return make

    return add


def session(model: onnx.ModelProto | bytes, optimised: bool = False) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = (
        ort.GraphOptimizationLevel.ORT_ENABLE_ALL if optimised else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


class Net(Data):
    """The graph under construction. Values are named by strings, as in ONNX."""

    def __init__(self, name: str, opset: int = 17, norm: str = "bn", act: str = "relu", stored: str = "initializer",
                 samples: int = SAMPLES, batch: int | None = None):  # fmt: skip
        self.name, self.opset, self.norm, self.act, self.stored = name, opset, norm, act, stored
        self.samples, self.batch = samples, batch
        self.seen = batch or SEEN
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.calibration: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {}
        self.made_by: dict[str, onnx.NodeProto] = {}
        self.domains = {"": opset}

    # The graph.

    def input(self, name: str, data: np.ndarray, shape: list | None = None) -> str:
        """An input with its calibration data; its batch is open unless the net has a fixed one."""
        shape = shape or [self.batch or "N", *data.shape[1:]]
        kind = helper.np_dtype_to_tensor_dtype(data.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        self.calibration[name] = data
        self.values[name] = data[: self.seen]
        return name

    def output(self, value: str, name: str | None = None, shape: list | None = None) -> str:
        """Makes a value an output of the model; it has to move with the input."""
        name = name or f"y{len(self.outputs)}"
        last = self.made_by[value]
        array = self.value(value)
        for node in self.nodes:
            for names in (node.input, node.output):
                for at, used in enumerate(names):
                    if used == value:
                        names[at] = name
        self.made_by[name] = last
        self.values[name] = array
        open_batch = self.batch is None and array.ndim > 0 and array.shape[0] == self.seen
        shape = shape or [("N" if open_batch and axis == 0 else size) for axis, size in enumerate(array.shape)]
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        if not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(f"{self.name}: output {name} is not finite")
        if array.dtype.kind == "f" and array.ndim > 0 and array.shape[0] > 1:
            moves = float(array.astype(np.float64).std(axis=0).mean())
            scale = float(np.abs(array).mean()) + 1e-9
            if moves < 0.02 * scale:
                raise ValueError(f"{self.name}: output {name} moves by {moves:.1e} at a scale of {scale:.1e}")
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", name: str = "", **attributes):
        number = len(self.nodes)
        name = name or f"{kind}_{number}"
        made = [f"{name}_out{at}" if outputs > 1 else f"{name}_out" for at in range(outputs)]
        node = helper.make_node(kind, list(inputs), made, name=name, domain=domain, **attributes)
        self.nodes.append(node)
        self.made_by.update({value: node for value in made})
        return made[0] if outputs == 1 else made

    def const(self, array, name: str | None = None, stored: str | None = None) -> str:
        """A constant, as initializer or as Constant node."""
        array = np.asarray(array)
        name = name or f"c{len(self.constants) + len(self.nodes)}"
        self.constants[name] = array
        return name

    def ints(self, *numbers: int) -> str:
        return self.const(np.array(numbers, np.int64))

    def number(self, value: float) -> str:
        return self.const(np.float32(value))

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def weight(self, *shape: int, fan_in: int, gain: float = 1.4) -> np.ndarray:
        """Random weights; outputs (the first axis) have gains that differ, and some of them are nearly told by others."""
        flat = self.normal(shape[0], int(np.prod(shape[1:])))
        mix = self.normal(shape[0], max(1, shape[0] // 2))
        low = mix @ self.normal(mix.shape[1], flat.shape[1]) / np.sqrt(mix.shape[1])
        flat = (0.55 * flat + 0.85 * low) * self.random.uniform(0.6, 1.4, (shape[0], 1)).astype(np.float32)
        return (flat * gain / np.sqrt(fan_in)).reshape(shape).astype(np.float32)

    def value(self, name: str) -> np.ndarray:
        """What a value is on the samples seen, computed from what is known already."""
        if name in self.constants:
            return self.constants[name]
        if name not in self.values:
            needed, inputs, wanted = [], {}, [name]
            done = set()
            while wanted:
                at = wanted.pop()
                if not at or at in done or at in self.constants:
                    continue
                done.add(at)
                if at in self.values:
                    inputs[at] = self.values[at]
                    continue
                node = self.made_by[at]
                needed.append(node)
                wanted.extend(node.input)
                wanted.extend(self.captured(node))
            keep = {id(node) for node in needed}
            nodes = [node for node in self.nodes if id(node) in keep]
            used = {value for node in nodes for value in [*node.input, *self.captured(node)]}
            graph = helper.make_graph(
                nodes,
                "part",
                [
                    helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                    for n, a in inputs.items()
                ],
                [helper.make_empty_tensor_value_info(made) for made in self.made_by[name].output],
                [numpy_helper.from_array(a, n) for n, a in self.constants.items() if n in used],
            )
            made = list(self.made_by[name].output)
            self.values.update(zip(made, session(self.wrap(graph)).run(made, inputs)))
        return self.values[name]

    @staticmethod
    def captured(node: onnx.NodeProto) -> list[str]:
        """Names that the bodies of a node read."""
        bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        return [name for body in bodies for inner in body.node for name in inner.input]

    def wrap(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR[self.opset])

    def model(self) -> onnx.ModelProto:
        used = {value for node in self.nodes for value in [*node.input, *self.captured(node)]}
        constants = {name: array for name, array in self.constants.items() if name in used}
        tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        nodes = list(self.nodes)
        if self.stored == "constant":
            made = [helper.make_node("Constant", [], [t.name], name=f"Constant_{t.name}", value=t) for t in tensors]
            nodes, tensors = made + nodes, []
        graph = helper.make_graph(nodes, self.name, self.inputs, self.outputs, tensors)
        return self.wrap(graph)

    # Shapes.

    def shape(self, x: str) -> tuple[int, ...]:
        return self.value(x).shape

    def width(self, x: str, axis: int = 1) -> int:
        return self.shape(x)[axis]

    def reshape(self, x: str, *sizes: int) -> str:
        return self.op("Reshape", x, self.ints(*sizes))

    def traced_size(self, x: str, axis: int) -> str:
        """One size of a value as TorchScript computes it, of shape [1]."""
        size = self.op("Gather", self.op("Shape", x), self.const(np.int64(axis)), axis=0)
        return self.unsqueeze(size, 0)

    def traced_reshape(self, x: str, *sizes) -> str:
        """A Reshape whose target TorchScript puts together; a size given as ("axis", k) is read from x."""
        parts = [self.traced_size(x, s[1]) if isinstance(s, tuple) else self.ints(s) for s in sizes]
        return self.op("Reshape", x, self.op("Concat", *parts, axis=0))

    def flatten(self, x: str, how: str = "Flatten") -> str:
        if how == "traced":
            return self.traced_reshape(x, ("axis", 0), -1)
        return self.op("Flatten", x, axis=1)

    def unsqueeze(self, x: str, *axes: int) -> str:
        if self.opset < 13:
            return self.op("Unsqueeze", x, axes=list(axes))
        return self.op("Unsqueeze", x, self.ints(*axes))

    def squeeze(self, x: str, *axes: int) -> str:
        if self.opset < 13:
            return self.op("Squeeze", x, axes=list(axes))
        return self.op("Squeeze", x, self.ints(*axes))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=list(order))

    def concat(self, *parts: str, axis: int = 1) -> str:
        return self.op("Concat", *parts, axis=axis)

    def split(self, x: str, *sizes: int, axis: int = 1) -> list[str]:
        if self.opset < 13:
            return self.op("Split", x, outputs=len(sizes), split=list(sizes), axis=axis)
        return self.op("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)

    def slice(self, x: str, axis: int, first: int, last: int, step: int = 1) -> str:
        return self.op("Slice", x, self.ints(first), self.ints(last), self.ints(axis), self.ints(step))

    def reduce(self, kind: str, x: str, *axes: int, keep: bool = True) -> str:
        by_input = self.opset >= (13 if kind == "ReduceSum" else 18)
        if by_input:
            return self.op(kind, x, self.ints(*axes), keepdims=int(keep))
        return self.op(kind, x, axes=list(axes), keepdims=int(keep))

    def resize(self, x: str, times: int = 2, mode: str = "nearest") -> str:
        rank = len(self.shape(x))
        scales = self.const(np.array([1, 1] + [times] * (rank - 2), np.float32))
        return self.op("Resize", x, "", scales, mode=mode, coordinate_transformation_mode="asymmetric",
                       **({"nearest_mode": "floor"} if mode == "nearest" else {}))  # fmt: skip

    def resize_like(self, x: str, like: str, mode: str = "linear") -> str:
        """A Resize to the size of another value, computed as exporters do."""
        size = self.op("Slice", self.op("Shape", like), self.ints(2), self.ints(4), self.ints(0))
        kept = self.op("Slice", self.op("Shape", x), self.ints(0), self.ints(2), self.ints(0))
        target = self.op("Concat", kept, size, axis=0)
        return self.op("Resize", x, "", "", target, mode=mode, coordinate_transformation_mode="half_pixel",
                       **({"nearest_mode": "floor"} if mode == "nearest" else {}))  # fmt: skip

    def pad(self, x: str, pads: list[int], mode: str = "constant") -> str:
        return self.op("Pad", x, self.ints(*pads), mode=mode)

    # Layers.

    def activate(self, x: str, kind: str | None) -> str:
        simple = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu", "softplus": "Softplus"}
        match kind:
            case None:
                return x
            case _ if kind in simple:
                return self.op(simple[kind], x)
            case "relu6":
                return self.op("Clip", x, self.number(0), self.number(6))
            case "leaky":
                return self.op("LeakyRelu", x, alpha=0.1)
            case "silu":
                return self.op("Mul", x, self.op("Sigmoid", x))
            case "hsigmoid":
                return self.op("HardSigmoid", x, alpha=1 / 6)
            case "hswish":
                return self.op("HardSwish", x)
            case "hswish_pieces":
                clipped = self.op("Clip", self.op("Add", x, self.number(3)), self.number(0), self.number(6))
                return self.op("Mul", x, self.op("Div", clipped, self.number(6)))
            case "mish":
                return self.op("Mul", x, self.op("Tanh", self.op("Softplus", x)))
            case "gelu":
                if self.opset >= 20:
                    return self.op("Gelu", x)
                inner = self.op("Erf", self.op("Div", x, self.number(2**0.5)))
                both = self.op("Mul", x, self.op("Add", inner, self.number(1)))
                return self.op("Mul", both, self.number(0.5))
            case "gelu_tanh":
                cubed = self.op("Pow", x, self.number(3))
                inner = self.op("Add", x, self.op("Mul", cubed, self.number(0.044715)))
                inner = self.op("Tanh", self.op("Mul", inner, self.number((2 / np.pi) ** 0.5)))
                return self.op("Mul", self.op("Mul", x, self.number(0.5)), self.op("Add", inner, self.number(1)))
            case "prelu":
                slopes = self.random.uniform(0.05, 0.4, (self.width(x), *[1] * (len(self.shape(x)) - 2)))
                return self.op("PRelu", x, self.const(slopes.astype(np.float32)))
            case "snake":
                part = self.op("Sin", x)
                return self.op("Add", x, self.op("Mul", part, part))
        raise ValueError(f"no activation {kind}")

    def statistics(self, x: str, axis: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each channel."""
        array = self.value(x).astype(np.float64)
        others = tuple(a for a in range(array.ndim) if a != axis % array.ndim)
        return array.mean(others).astype(np.float32), (array.var(others) + 1e-4).astype(np.float32)

    def affine(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        gamma = self.random.uniform(0.6, 1.4, channels).astype(np.float32)
        return gamma, self.normal(channels, scale=0.3)

    def batchnorm(self, x: str) -> str:
        """A BatchNormalization whose statistics are those of its input."""
        mean, var = self.statistics(x)
        gamma, beta = self.affine(len(mean))
        return self.op("BatchNormalization", x, *(self.const(a) for a in (gamma, beta, mean, var)))

    def normalise(self, x: str, kind: str | None) -> str:
        channels, rank = self.width(x), len(self.shape(x))
        around = (channels, *[1] * (rank - 2))
        match kind:
            case None:
                return x
            case "bn":
                return self.batchnorm(x)
            case "affine":
                mean, var = self.statistics(x)
                gamma, beta = self.affine(channels)
                factor = gamma / np.sqrt(var)
                scaled = self.op("Mul", x, self.const(factor.reshape(around)))
                return self.op("Add", scaled, self.const((beta - mean * factor).reshape(around)))
            case "in":
                gamma, beta = self.affine(channels)
                return self.op("InstanceNormalization", x, self.const(gamma), self.const(beta))
            case "gn":
                return self.groupnorm(x, 4)
        raise ValueError(f"no norm {kind}")

    def groupnorm(self, x: str, groups: int) -> str:
        """As exporters write it before opset 18: an InstanceNormalization between two Reshapes."""
        channels, rank = self.width(x), len(self.shape(x))
        around = (channels, *[1] * (rank - 2))
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        folded = self.reshape(x, 0, groups, -1)
        normed = self.op("InstanceNormalization", folded, self.const(ones), self.const(zeros))
        back = self.op("Reshape", normed, self.op("Shape", x))
        gamma, beta = self.affine(channels)
        return self.op("Add", self.op("Mul", back, self.const(gamma.reshape(around))), self.const(beta.reshape(around)))

    def conv(self, x: str, out: int, k=3, stride=1, groups: int = 1, dilation: int = 1, norm="net", act="net",
             pad=None, transposed: bool = False, name: str = "") -> str:  # fmt: skip
        """A convolution in as many dimensions as its input has, with norm and activation; `groups=0` is depthwise.

        norm: "fold" (weights that hold the norm), "bn", "affine", "in", "gn", None (a bias and no norm) or the net's.
        """
        norm, act = (self.norm if norm == "net" else norm), (self.act if act == "net" else act)
        rank, ci = len(self.shape(x)) - 2, self.width(x)
        groups = groups or ci
        kernel = [k] * rank if isinstance(k, int) else list(k)
        strides = [stride] * rank if isinstance(stride, int) else list(stride)
        pads = [dilation * (size // 2) for size in kernel] if pad is None else [pad] * rank
        inner = ci // groups * int(np.prod(kernel))
        if transposed:
            pads = [(size - step) // 2 for size, step in zip(kernel, strides)]
            made = self.weight(out, ci, *kernel, fan_in=inner // max(1, int(np.prod(strides))))
            w = np.ascontiguousarray(made.swapaxes(0, 1))
        else:
            w = self.weight(out, ci // groups, *kernel, fan_in=inner)
        attributes = {"kernel_shape": kernel, "pads": pads * 2, "strides": strides, "group": groups}
        if dilation > 1:
            attributes["dilations"] = [dilation] * rank
        weight = self.const(w)
        biased = norm in (None, "fold")
        bias = [self.const(self.normal(out, scale=0.3))] if biased else []
        kind = "ConvTranspose" if transposed else "Conv"
        y = self.op(kind, x, weight, *bias, name=name, **attributes)
        if norm == "fold":
            self.fold(y, weight, bias[0], transposed)
        else:
            y = self.normalise(y, norm)
        return self.activate(y, act)

    def fold(self, y: str, weight: str, bias: str, transposed: bool) -> None:
        """Gives the layer the weights and bias that a BatchNormalization behind it leaves when it is folded."""
        mean, var = self.statistics(y)
        gamma, beta = self.affine(len(mean))
        factor = gamma / np.sqrt(var)
        w = self.constants[weight]
        axis = 1 if transposed else 0
        self.constants[weight] = w * factor.reshape([-1 if a == axis else 1 for a in range(w.ndim)])
        self.constants[bias] = beta + (self.constants[bias] - mean) * factor
        around = [1, -1, *[1] * (w.ndim - 2)]
        self.values[y] = ((self.values[y] - mean.reshape(around)) * factor.reshape(around) + beta.reshape(around)).astype(np.float32)

    def depthwise(self, x: str, k=3, **options) -> str:
        return self.conv(x, self.width(x), k, groups=0, **options)

    def linear(self, x: str, out: int, act: str | None = None, bias: bool = True, gain: float = 1.0, name: str = "") -> str:
        """Gemm for matrices, MatMul (and Add) for what has more axes."""
        ci = self.shape(x)[-1]
        w = self.weight(out, ci, fan_in=ci, gain=gain)
        shift = self.normal(out, scale=0.3)
        if bias and act:
            # Units of a rectifier that are always on or always off would be a poor test.
            shift -= (self.value(x).reshape(-1, ci).astype(np.float64) @ w.T.astype(np.float64)).mean(0).astype(np.float32)
        if len(self.shape(x)) == 2 and bias:
            y = self.op("Gemm", x, self.const(w), self.const(shift), transB=1, name=name)
        else:
            y = self.op("MatMul", x, self.const(np.ascontiguousarray(w.T)), name=name)
            if bias:
                y = self.op("Add", self.const(shift), y)
        return self.activate(y, act)

    def layernorm(self, x: str) -> str:
        gamma, beta = self.affine(self.shape(x)[-1])
        return self.op("LayerNormalization", x, self.const(gamma), self.const(beta), axis=-1, epsilon=1e-5)

    def layernorm_pieces(self, x: str) -> str:
        """As exporters write it before opset 17."""
        gamma, beta = self.affine(self.shape(x)[-1])
        centred = self.op("Sub", x, self.reduce("ReduceMean", x, -1))
        var = self.reduce("ReduceMean", self.op("Pow", centred, self.number(2)), -1)
        y = self.op("Div", centred, self.op("Sqrt", self.op("Add", var, self.number(1e-5))))
        return self.op("Add", self.op("Mul", y, self.const(gamma)), self.const(beta))

    def layernorm2d(self, x: str) -> str:
        """A LayerNormalization over the channels of an image, as ConvNeXt has it."""
        return self.transpose(self.layernorm(self.transpose(x, 0, 2, 3, 1)), 0, 3, 1, 2)

    def rmsnorm(self, x: str) -> str:
        gamma, _ = self.affine(self.shape(x)[-1])
        mean = self.reduce("ReduceMean", self.op("Pow", x, self.number(2)), -1)
        y = self.op("Mul", x, self.op("Reciprocal", self.op("Sqrt", self.op("Add", mean, self.number(1e-6)))))
        return self.op("Mul", self.const(gamma), y)

    def maxpool(self, x: str, k: int = 3, stride: int = 2, pad: int | None = None) -> str:
        pad, rank = (k // 2 if pad is None else pad), len(self.shape(x)) - 2
        return self.op("MaxPool", x, kernel_shape=[k] * rank, strides=[stride] * rank, pads=[pad] * rank * 2)

    def avgpool(self, x: str, k: int = 2, stride: int = 2, pad: int = 0) -> str:
        rank = len(self.shape(x)) - 2
        return self.op("AveragePool", x, kernel_shape=[k] * rank, strides=[stride] * rank, pads=[pad] * rank * 2)

    def gap(self, x: str) -> str:
        return self.op("GlobalAveragePool", x)

    def add(self, *parts: str) -> str:
        out = parts[0]
        for part in parts[1:]:
            out = self.op("Add", out, part)
        return out

    def squeeze_excite(self, x: str, narrow: int, gate: str = "sigmoid", act: str = "relu") -> str:
        y = self.conv(self.gap(x), narrow, 1, norm=None, act=act)
        return self.op("Mul", x, self.conv(y, self.width(x), 1, norm=None, act=gate))

    def classify(self, x: str, classes: int = 10, how: str = "Flatten") -> None:
        """Mean over space, flattened, one layer."""
        self.output(self.linear(self.flatten(self.gap(x), how), classes))

    def embedding(self, tokens: str, vocabulary: int, width: int) -> str:
        return self.op("Gather", self.const(self.normal(vocabulary, width)), tokens)
