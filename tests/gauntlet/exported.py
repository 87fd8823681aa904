"""The same networks as files come to people: fused, with shared weights, of one fixed batch, with channels last, from old and
new exporters."""

import cnn_residual
import numpy as np
import onnx
import onnxruntime as ort
import transformers
from net import Net, session, skeleton
from onnx import TensorProto, helper, numpy_helper


def stages(net: Net, x: str, widths=(16, 28)) -> str:
    """A small residual network up to its features."""
    x = net.conv(x, widths[0], 3, 2)
    for out in widths:
        x = cnn_residual.basic(net, x, out, 1 if out == widths[0] else 2)
        x = cnn_residual.basic(net, x, out)
    return x


def tokens_through(net: Net, count: int = 2, wide: int = 24) -> str:
    x = net.linear(net.series(8, 10, last=True), wide)
    for _ in range(count):
        x = net.layernorm(net.add(x, transformers.attention(net, x, 3)))
        x = net.layernorm(net.add(x, transformers.mlp(net, x)))
    return x


# What ONNX Runtime's optimiser writes.


def optimised(net: Net, level: ort.GraphOptimizationLevel) -> onnx.ModelProto:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(net.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


@skeleton()
def resnet_ort_basic(net: Net):
    net.classify(stages(net, net.images(3, 20)))
    return optimised(net, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC)


@skeleton()
def resnet_ort_extended(net: Net):
    """FusedConv with activations and sums."""
    net.classify(stages(net, net.images(3, 20)))
    return optimised(net, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


@skeleton(act="leaky")
def mlp_ort_extended(net: Net):
    """FusedGemm, convolutions with LeakyRelu."""
    x = net.conv(net.conv(net.images(3, 16), 16), 24, 3, 2)
    x = net.flatten(net.gap(net.conv(x, 32, 3, 2)))
    x = net.linear(net.linear(x, 40, "relu"), 24, "leaky")
    net.output(net.linear(x, 6))
    return optimised(net, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


@skeleton()
def transformer_ort_extended(net: Net):
    """SkipLayerNormalization, BiasGelu, FusedMatMul, Attention where the optimiser finds it."""
    net.output(net.linear(tokens_through(net, 3), 6))
    return optimised(net, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


@skeleton()
def bert_ort_extended(net: Net):
    transformers.bert(net)
    return optimised(net, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


# Weights that several nodes read.


def towers(net: Net, names: list[str]) -> list[str]:
    """The same layers for several inputs."""
    kernels, ci = [], 3
    for width in (16, 16, 24, 24):
        kernels.append((net.const(net.weight(width, ci, 3, 3, fan_in=ci * 9)), net.const(net.normal(width, scale=0.3))))
        ci = width
    matrix, bias = net.const(net.weight(20, 24, fan_in=24)), net.const(net.normal(20, scale=0.3))
    made = []
    for name in names:
        x = net.images(3, 16, name)
        for number, (kernel, shift) in enumerate(kernels):
            y = net.op("Conv", x, kernel, shift, pads=[1] * 4, strides=[1 + number % 2] * 2)
            x = net.op("Relu", net.add(x, y) if number == 1 and net.shape(x) == net.shape(y) else y)
        made.append(net.op("Gemm", net.flatten(net.gap(x)), matrix, bias, transB=1))
    return made


@skeleton()
def siamese(net: Net):
    """Two inputs through the same layers, the distance through a layer of its own."""
    left, right = towers(net, ["left", "right"])
    net.output(net.linear(net.linear(net.op("Abs", net.op("Sub", left, right)), 24, "relu"), 1))


@skeleton()
def triplet(net: Net):
    """Three inputs through the same layers, whose outputs have a length of one."""
    for made in towers(net, ["anchor", "same", "other"]):
        net.output(net.op("LpNormalization", made, axis=1, p=2))


@skeleton()
def shared_blocks(net: Net):
    """ALBERT: one block's weights, used in each layer."""
    x = net.linear(net.series(8, 8, last=True), 24)
    weights = [net.const(net.weight(24, 24, fan_in=24, gain=1.0)) for _ in range(4)]
    wide, narrow = net.const(net.weight(48, 24, fan_in=24).T.copy()), net.const(net.weight(24, 48, fan_in=48).T.copy())
    biases = [net.const(net.normal(n, scale=0.3)) for n in (24, 24, 24, 24, 48, 24)]
    gammas = [[net.const(a) for a in net.affine(24)] for _ in range(2)]
    for _ in range(3):
        parts = [net.op("Add", net.op("MatMul", x, w), b) for w, b in zip(weights[:3], biases)]
        y = transformers.joined(net, transformers.attend(net, *(transformers.heads_of(net, part, 3) for part in parts)))
        y = net.op("Add", net.op("MatMul", y, weights[3]), biases[3])
        x = net.op("LayerNormalization", net.add(x, y), *gammas[0], axis=-1)
        y = net.activate(net.op("Add", net.op("MatMul", x, wide), biases[4]), "gelu")
        y = net.op("Add", net.op("MatMul", y, narrow), biases[5])
        x = net.op("LayerNormalization", net.add(x, y), *gammas[1], axis=-1)
    net.output(net.linear(x, 5))


@skeleton()
def unrolled_recurrence(net: Net):
    """A cell of small nodes, its weights read at each step."""
    x = net.series(6, 6, last=True)
    into, back = net.const(net.weight(24, 6, fan_in=6).T.copy()), net.const(net.weight(24, 24, fan_in=24, gain=0.8).T.copy())
    bias = net.const(net.normal(24, scale=0.3))
    state = None
    for step in range(6):
        y = net.add(net.op("MatMul", net.op("Gather", x, net.const(np.int64(step)), axis=1), into), bias)
        state = net.op("Tanh", y if state is None else net.add(y, net.op("MatMul", state, back)))
    net.output(net.linear(net.linear(state, 32, "relu"), 4))


# Batches, layouts, forms of files.


@skeleton(batch=1, norm="fold")
def resnet_batch_1(net: Net):
    """A batch of one, written into the Reshapes too."""
    x = stages(net, net.images(3, 20))
    x = net.reshape(net.gap(x), 1, 28)
    net.output(net.linear(net.linear(x, 24, "relu"), 10))


@skeleton(batch=4)
def transformer_batch_4(net: Net):
    x = net.linear(net.series(8, 10, last=True), 24)
    for _ in range(2):
        parts = [net.transpose(net.reshape(net.linear(x, 24), 4, 10, 3, 8), 0, 2, 1, 3) for _ in range(3)]
        y = net.reshape(net.transpose(transformers.attend(net, *parts), 0, 2, 1, 3), 4, 10, 24)
        x = net.layernorm(net.add(x, net.linear(y, 24)))
        x = net.layernorm(net.add(x, transformers.mlp(net, x)))
    net.output(net.linear(net.reshape(x, 4, 240), 6))


@skeleton(norm="fold", batch=4)
def resnet_batch_4(net: Net):
    x = stages(net, net.images(3, 20))
    net.output(net.linear(net.reshape(net.gap(x), 4, 28), 10))


@skeleton(norm="fold")
def mobilenet_channels_last(net: Net):
    """As tf2onnx writes: the input has channels last, one Transpose at each end."""
    x = net.input("x", np.ascontiguousarray(image_data(net, 3, 24).transpose(0, 2, 3, 1)))
    x = net.conv(net.transpose(x, 0, 3, 1, 2), 12, 3, 2, act="relu6")
    for out, stride in ((16, 2), (16, 1), (24, 2), (24, 1)):
        y = net.conv(net.width(x) and x, net.width(x) * 2, 1, act="relu6")
        y = net.conv(net.depthwise(y, stride=stride, act="relu6"), out, 1, act=None)
        x = net.add(x, y) if stride == 1 else y
    x = net.reduce("ReduceMean", net.transpose(x, 0, 2, 3, 1), 1, 2, keep=False)
    net.output(net.op("Softmax", net.linear(x, 8), axis=-1))


def image_data(net: Net, channels: int, size: int) -> np.ndarray:
    """Images that are not an input yet."""
    other = Net(f"{net.name}/data")
    other.images(channels, size)
    return other.calibration["x"]


@skeleton(norm=None)
def resnet_transposes(net: Net):
    """Every layer between two Transposes, its bias and its norm on the last axis."""
    x = net.input("x", np.ascontiguousarray(image_data(net, 3, 20).transpose(0, 2, 3, 1)))

    def layer(x, out, stride=1, act=True):
        y = net.transpose(x, 0, 3, 1, 2)
        kernel = net.weight(out, net.width(y), 3, 3, fan_in=net.width(y) * 9)
        y = net.op("Conv", y, net.const(kernel), pads=[1] * 4, strides=[stride] * 2)
        y = net.transpose(y, 0, 2, 3, 1)
        mean, var = net.statistics(y, -1)
        y = net.op("Mul", net.op("Sub", y, net.const(mean)), net.const((net.affine(out)[0] / np.sqrt(var)).astype(np.float32)))
        y = net.op("Add", y, net.const(net.normal(out, scale=0.3)))
        return net.op("Relu", y) if act else y

    x = layer(x, 16)
    for out, stride in ((16, 1), (24, 2)):
        for step in (stride, 1):
            short = x if net.shape(x)[-1] == out else layer(x, out, step, act=False)
            x = net.op("Relu", net.add(short, layer(layer(x, out, step), out, act=False)))
    net.output(net.linear(net.reduce("ReduceMean", x, 1, 2, keep=False), 8))


@skeleton(norm="fold")
def resnet_preprocessing(net: Net):
    """Pixels as bytes, channels last; mean and deviation are taken in the graph."""
    pixels = np.clip(image_data(net, 3, 20) * 50 + 128, 0, 255).astype(np.uint8)
    x = net.input("pixels", np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    x = net.op("Div", net.op("Cast", x, to=TensorProto.FLOAT), net.number(255))
    x = net.op("Sub", x, net.const(np.array([0.485, 0.456, 0.406], np.float32)))
    x = net.op("Div", x, net.const(np.array([0.229, 0.224, 0.225], np.float32)))
    net.classify(stages(net, net.transpose(x, 0, 3, 1, 2)))


@skeleton(opset=11, norm="bn")
def resnet_opset_11(net: Net):
    """Axes as attributes, and initializers that are inputs too."""
    x = stages(net, net.images(3, 20))
    x = net.squeeze(net.reduce("ReduceMean", x, 2, 3), 2, 3)
    left, right = net.split(net.linear(x, 32, "relu"), 16, 16)
    net.output(net.linear(net.op("Mul", left, net.op("Sigmoid", right)), 8))
    model = net.model()
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    )
    return model


@skeleton(norm=None)
def resnet_weight_norm(net: Net):
    """Weights are computed from a direction and a length in the graph."""

    def layer(x, out, act=True, stride=1):
        ci = net.width(x)
        direction = net.const(net.weight(out, ci, 3, 3, fan_in=ci * 9))
        length = net.const(net.random.uniform(1.0, 2.2, (out, 1, 1, 1)).astype(np.float32))
        size = net.op("Sqrt", net.reduce("ReduceSum", net.op("Mul", direction, direction), 1, 2, 3))
        kernel = net.op("Mul", net.op("Div", direction, size), length)
        y = net.op("Conv", x, kernel, net.const(net.normal(out, scale=0.3)), pads=[1] * 4, strides=[stride] * 2)
        return net.op("Relu", y) if act else y

    x = layer(net.images(3, 20), 16)
    for out, stride in ((16, 1), (28, 2)):
        if stride > 1:
            x = layer(x, out, stride=2)
        for _ in range(2):
            x = net.op("Relu", net.add(x, layer(layer(x, out), out, act=False)))
    net.classify(x)


@skeleton(norm=None)
def scattered_weights(net: Net):
    """A weight that ScatterND puts together from constants."""
    x = net.images(3, 16)
    for out in (16, 24, 24):
        ci = net.width(x)
        base = net.const(np.zeros((out, ci, 3, 3), np.float32))
        at = net.const(net.random.permutation(out).astype(np.int64)[:, None])
        kernel = net.op("ScatterND", base, at, net.const(net.weight(out, ci, 3, 3, fan_in=ci * 9)))
        x = net.op("Relu", net.op("Conv", x, kernel, net.const(net.normal(out, scale=0.3)), pads=[1] * 4))
    net.classify(net.conv(x, 24))


@skeleton(norm="fold")
def local_functions(net: Net):
    """Blocks as functions of the model, with nodes that have no name."""
    block = helper.make_function(
        "house", "Block", ["x", "w1", "b1", "w2", "b2"], ["y"],
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1] * 4),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("Conv", ["r", "w2", "b2"], ["c"], pads=[1] * 4),
            helper.make_node("Add", ["c", "x"], ["s"]),
            helper.make_node("Relu", ["s"], ["y"]),
        ],
        [helper.make_opsetid("", net.opset)],
    )  # fmt: skip
    x = net.conv(net.images(3, 16), 20)
    net.domains["house"] = 1
    for number in range(3):
        parts = []
        for _ in range(2):
            parts += [net.const(net.weight(20, 20, 3, 3, fan_in=180, gain=1.0)), net.const(net.normal(20, scale=0.3))]
        made = net.op("Block", x, *parts, domain="house", name=f"block{number}")
        # The builder runs the pieces, since it knows no functions.
        y = net.values.setdefault(made, run_block(net, x, parts))
        assert y.shape == net.shape(x)
        x = made
    net.output(net.linear(net.flatten(net.gap(x)), 10))
    model = net.model()
    model.functions.append(block)
    return model


def run_block(net: Net, x: str, parts: list[str]) -> np.ndarray:
    other = Net("block", opset=net.opset)
    other.constants = {name: net.constants[name] for name in parts}
    start = other.input("start", net.value(x))
    y = other.op("Relu", other.op("Conv", start, parts[0], parts[1], pads=[1] * 4))
    y = other.op("Relu", other.add(other.op("Conv", y, parts[2], parts[3], pads=[1] * 4), start))
    other.seen = len(net.value(x))
    return other.value(y)


@skeleton(norm="fold")
def chosen_by_if(net: Net):
    """Branches of an If that read values from outside and have names like those of biases."""
    x = net.conv(net.conv(net.images(3, 16), 16), 16)
    flat = net.flatten(net.gap(net.conv(x, 24)))
    hidden = net.linear(flat, 32, "relu", bias=False)
    y = net.linear(hidden, 8, bias=False, name="head")
    mean = net.reduce("ReduceMean", net.op("Abs", flat), 0, 1, keep=False)
    branches = []
    for kind, name in (("Relu", "head/bias"), ("Tanh", "head_bias")):
        nodes = [helper.make_node(kind, [y], [name], name=f"inside/{kind}")]
        branches.append(helper.make_graph(nodes, kind, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]))
    y = net.op("If", net.op("Greater", mean, net.number(0.01)), then_branch=branches[1], else_branch=branches[0])
    net.output(y)


@skeleton(norm="fold")
def open_sizes(net: Net):
    """Height and width are open."""
    x = net.images(3, 20)
    net.inputs[-1] = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "height", "width"])
    for width in (16, 16, 24, 24):
        x = net.conv(x, width)
    y = net.op("Resize", net.conv(net.maxpool(x, 2, pad=0), 16), "", "", net.op("Concat", net.op("Slice", net.op("Shape", x), net.ints(0), net.ints(1), net.ints(0)), net.ints(16), net.op("Slice", net.op("Shape", x), net.ints(2), net.ints(4), net.ints(0)), axis=0), mode="nearest")
    net.output(net.conv(net.concat(x, y), 3, 1, norm=None, act=None), shape=["N", 3, "height", "width"])


@skeleton()
def written_shapes(net: Net):
    """Shapes of all values are in the file, weights go through Identity, some initializers are not used."""
    x = stages(net, net.images(3, 20))
    nodes, net.nodes = net.nodes, []
    for number, node in enumerate(nodes):
        if node.op_type == "Conv":
            node.input[1] = net.op("Identity", node.input[1], name=f"identity{number}")
        net.nodes.append(node)
    net.classify(x)
    model = net.model()
    model.graph.initializer.append(numpy_helper.from_array(net.normal(16), "unused"))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


@skeleton(norm=None)
def einsum_transformer(net: Net):
    """All products as Einsum."""
    x = net.linear(net.series(8, 10, last=True), 24)
    for _ in range(2):
        y = net.layernorm(x)
        q, k, v = (net.op("Einsum", y, net.const(net.weight(24, 24, fan_in=24).T.reshape(24, 3, 8).copy()), equation="ntc,chd->nthd") for _ in range(3))
        scores = net.op("Softmax", net.op("Mul", net.op("Einsum", q, k, equation="nqhd,nkhd->nhqk"), net.number(8**-0.5)), axis=-1)
        y = net.op("Einsum", scores, v, equation="nhqk,nkhd->nqhd")
        x = net.add(x, net.op("Einsum", y, net.const(net.weight(24, 24, fan_in=24).T.reshape(3, 8, 24).copy()), equation="nqhd,hdc->nqc"))
        y = net.activate(net.op("Einsum", net.layernorm(x), net.const(net.weight(48, 24, fan_in=24).T.copy()), equation="ntc,cd->ntd"), "gelu")
        x = net.add(x, net.op("Einsum", y, net.const(net.weight(24, 48, fan_in=48).T.copy()), equation="ntd,dc->ntc"))
    net.output(net.linear(x, 5))


@skeleton(batch=1, norm="fold")
def resnet_reshaped_to_one(net: Net):
    """The batch is open, but a Reshape fixes it to one."""
    x = net.images(3, 20)
    net.inputs[-1] = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 20, 20])
    x = net.reshape(net.gap(stages(net, x)), 1, 28)
    net.output(net.linear(net.linear(x, 24, "relu"), 10), shape=["N", 10])
