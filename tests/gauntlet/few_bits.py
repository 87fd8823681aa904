"""Networks whose weights or values have few bits, or half of them."""

import numpy as np
import onnx
import transformers
from exported import stages, tokens_through
from net import Net, skeleton
from onnx import TensorProto, helper, numpy_helper


def steps(array: np.ndarray, axis: int | None, bits: int = 8) -> np.ndarray:
    """Scales around zero, one or one for each channel."""
    others = None if axis is None else tuple(a for a in range(array.ndim) if a != axis)
    return (np.abs(array).max(others) / (2 ** (bits - 1) - 1)).astype(np.float32)


def along(scale: np.ndarray, rank: int, axis: int | None) -> np.ndarray:
    return scale if axis is None else scale.reshape([-1 if a == axis else 1 for a in range(rank)])


def quantise(net: Net, per_channel: bool, signed: bool) -> None:
    """Puts QuantizeLinear and DequantizeLinear before what layers read, and stores weights in 8 bits, biases in 32."""
    nodes, net.nodes = net.nodes, []
    rounded: dict[str, str] = {}
    for node in nodes:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in net.constants:
            data, weight = node.input[0], net.constants[node.input[1]]
            if data not in rounded:
                array = net.value(data)
                low, high = min(0.0, float(array.min())), max(0.0, float(array.max()))
                scale = max(-low, high) / 127 if signed else (high - low) / 255
                point = np.int8(0) if signed else np.uint8(round(-low / scale))
                names = [net.const(np.float32(scale), f"{data}/scale"), net.const(np.array(point), f"{data}/zero")]
                q = net.op("QuantizeLinear", data, *names, name=f"{data}/quantise")
                rounded[data] = net.op("DequantizeLinear", q, *names, name=f"{data}/dequantise")
            axis = {"Conv": 0, "Gemm": 0, "MatMul": weight.ndim - 1}[node.op_type] if per_channel else None
            scale = steps(weight, axis)
            q = np.clip(np.round(weight / along(scale, weight.ndim, axis)), -127, 127).astype(np.int8)
            name = node.input[1]
            more = {} if axis is None else {"axis": axis}
            parts = [net.const(q, f"{name}/q"), net.const(scale, f"{name}/scale"), net.const(np.zeros(scale.shape, np.int8), f"{name}/zero")]
            node.input[0], node.input[1] = rounded[data], net.op("DequantizeLinear", *parts, name=f"{name}/dequantise", **more)
            if len(node.input) > 2:
                scale = (scale * net.constants[f"{data}/scale"]).astype(np.float32)
                bias, name = net.constants[node.input[2]], node.input[2]
                q = np.round(bias / scale).astype(np.int32)
                if scale.ndim == 0:
                    parts, more = [net.const(q, f"{name}/q"), net.const(scale, f"{name}/scale")], {}
                else:
                    parts, more = [net.const(q, f"{name}/q"), net.const(scale, f"{name}/scale")], {"axis": 0}
                node.input[2] = net.op("DequantizeLinear", *parts, name=f"{name}/dequantise", **more)
        net.nodes.append(node)


@skeleton(norm="fold", coarse=0.03)
def resnet_int8(net: Net):
    """QDQ with scales for each channel."""
    x = stages(net, net.images(3, 24))
    x = net.linear(net.flatten(net.gap(x)), 10)
    quantise(net, True, True)
    net.output(x)


@skeleton(norm="fold", coarse=0.03)
def vgg_uint8(net: Net):
    """QDQ with one scale for each weight, and activations that are not around zero."""
    x = net.images(3, 20)
    for width in (16, 24):
        x = net.maxpool(net.conv(net.conv(x, width), width), 2, pad=0)
    x = net.linear(net.linear(net.flatten(x), 32, "relu"), 8)
    quantise(net, False, False)
    net.output(x)


@skeleton(coarse=0.03)
def transformer_int8(net: Net):
    x = tokens_through(net)
    x = net.linear(x, 6)
    quantise(net, True, False)
    net.output(x)


@skeleton(coarse=0.01)
def sentence_int8_cast(net: Net):
    """Weights of 8 bits that a Cast and a Mul make floats of."""
    x = tokens_through(net)
    x = net.linear(net.reduce("ReduceMean", x, 1, keep=False), 12, bias=False)
    nodes, net.nodes = net.nodes, []
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in net.constants:
            name, weight = node.input[1], net.constants[node.input[1]]
            scale = steps(weight, 1)
            q = net.const(np.round(weight / scale).astype(np.int8), f"{name}/q")
            y = net.op("Cast", q, to=TensorProto.FLOAT, name=f"{name}/cast")
            node.input[1] = net.op("Mul", y, net.const(scale, f"{name}/scale"), name=f"{name}/scaled")
        net.nodes.append(node)
    net.output(x)


@skeleton(coarse=0.03, unrepaired="The scales of sums of integers lie in other nodes.")
def mlp_int8_dynamic(net: Net):
    """Activations that are quantised while the model runs, and products of integers."""

    def layer(x, out, act):
        ci = net.shape(x)[-1]
        weight = np.ascontiguousarray(net.weight(out, ci, fan_in=ci, gain=1.4).T)
        scale = steps(weight, None)
        q, step, zero = net.op("DynamicQuantizeLinear", x, outputs=3)
        y = net.op("MatMulInteger", q, net.const(np.round(weight / scale).astype(np.int8)), zero, net.const(np.int8(0)))
        y = net.op("Mul", net.op("Cast", y, to=TensorProto.FLOAT), net.op("Mul", step, net.const(scale)))
        return net.activate(net.op("Add", y, net.const(net.normal(out, scale=0.3))), act)

    x = net.vectors(24)
    for width in (32, 40, 32):
        x = layer(x, width, "relu")
    net.output(layer(x, 6, None))


@skeleton(norm="fold", coarse=0.03)
def resnet_qlinear(net: Net):
    """QLinearConv, as the operator-oriented form of a quantised model."""
    x = net.images(3, 16)
    scale = [float(np.abs(net.value(x)).max()) / 127]
    y = net.op("QuantizeLinear", x, net.number(scale[0]), net.const(np.int8(0)))
    ci = 3
    for out in (32, 32, 48):
        weight = net.weight(out, ci, 3, 3, fan_in=ci * 9)
        step, after = steps(weight, 0), 0.05
        q = np.round(weight / along(step, 4, 0)).astype(np.int8)
        bias = np.round(net.normal(out, scale=0.3) / (scale[0] * step)).astype(np.int32)
        zero = net.const(np.int8(0))
        y = net.op("QLinearConv", y, net.number(scale[0]), zero, net.const(q), net.const(step),
                   net.const(np.zeros(out, np.int8)), net.number(after), zero, net.const(bias), pads=[1] * 4)  # fmt: skip
        y = net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
        scale, ci = [after], out
    x = net.op("DequantizeLinear", y, net.number(scale[0]), net.const(np.int8(0)))
    net.output(net.linear(net.flatten(net.gap(x)), 10))


# Half precision.


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """All floats in 16 bits, inputs and outputs too."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


@skeleton(norm="bn", coarse=0.02)
def resnet_half(net: Net):
    net.classify(stages(net, net.images(3, 20)))
    net.calibration = {name: array.astype(np.float16) for name, array in net.calibration.items()}
    return halved(net.model())


@skeleton(coarse=0.02)
def transformer_half(net: Net):
    net.output(net.linear(tokens_through(net), 6))
    net.calibration = {name: array.astype(np.float16) for name, array in net.calibration.items()}
    return halved(net.model())


@skeleton(norm="fold", coarse=0.002)
def unet_half_weights(net: Net):
    """Weights in 16 bits that a Cast makes wider."""
    x = net.images(3, 16)
    first = net.conv(net.conv(x, 12), 12)
    low = net.conv(net.conv(net.maxpool(first, 2, pad=0), 24), 24)
    x = net.concat(net.conv(low, 12, 2, 2, transposed=True), first)
    x = net.conv(net.conv(net.conv(x, 16), 16), 3, 1, norm=None, act=None)
    nodes, net.nodes = net.nodes, []
    for node in nodes:
        for slot, name in enumerate(node.input):
            array = net.constants.get(name)
            if array is not None and array.dtype == np.float32 and array.ndim > 0 and node.op_type != "Resize":
                half = net.const(array.astype(np.float16), f"{name}/half")
                node.input[slot] = net.op("Cast", half, to=TensorProto.FLOAT, name=f"{name}/wide")
        net.nodes.append(node)
    net.output(x)


@skeleton(norm=None)
def four_bits(net: Net):
    """MatMulNBits, which has no rule, in the MLPs of a transformer; attention in floats."""
    net.domains["com.microsoft"] = 1

    def narrow(x, out):
        ci = net.shape(x)[-1]
        packed = net.const(net.random.integers(0, 256, (out, ci // 16, 8)).astype(np.uint8))
        scale = net.const((net.random.uniform(0.5, 1.5, out * ci // 16) / (5 * ci**0.5)).astype(np.float32))
        return net.op("MatMulNBits", x, packed, scale, domain="com.microsoft", K=ci, N=out, bits=4, block_size=16)

    x = net.linear(net.series(8, 10, last=True), 32)
    for _ in range(2):
        x = net.add(x, transformers.attention(net, net.layernorm(x), 4))
        y = net.layernorm(x)
        x = net.add(x, narrow(net.op("Mul", net.activate(narrow(y, 48), "silu"), narrow(y, 48)), 32))
    net.output(net.linear(net.layernorm(x), 6))
