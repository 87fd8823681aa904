"""Networks of separable convolutions, and what they are built with: inverted residuals, shuffles, cheap features."""

import numpy as np
from net import Net, skeleton


def inverted(net: Net, x: str, grow: int, out: int, stride: int = 1, k: int = 3, narrow: int = 0, gate="sigmoid", drop=False):
    """An inverted residual block: wide inside, linear at its end."""
    y = net.conv(x, net.width(x) * grow, 1) if grow > 1 else x
    y = net.depthwise(y, k, stride=stride)
    if narrow:
        y = net.squeeze_excite(y, narrow, gate, "relu" if net.act == "hswish" else net.act)
    y = net.conv(y, out, 1, act=None)
    return net.add(x, y) if stride == 1 and net.width(x) == out else y


@skeleton(norm="fold")
def mobilenet_v1(net: Net):
    x = net.conv(net.images(3, 32), 16, stride=2)
    for out, stride in ((24, 1), (24, 1), (32, 2), (32, 1), (48, 2), (48, 1)):
        x = net.conv(net.depthwise(x, stride=stride), out, 1)
    net.classify(x)


@skeleton(act="relu6")
def mobilenet_v2(net: Net):
    x = net.conv(net.images(3, 32), 16, stride=2)
    x = inverted(net, x, 1, 8)
    for out, stride in ((12, 2), (20, 2)):
        x = inverted(net, x, 3, out, stride)
        x = inverted(net, x, 3, out)
        x = inverted(net, x, 3, out)
    net.classify(net.conv(x, 48, 1))


@skeleton(norm="fold", act="hswish")
def mobilenet_v3(net: Net):
    x = net.conv(net.images(3, 32), 12, stride=2)
    for out, stride, k, narrow in ((12, 1, 3, 6), (16, 2, 5, 8)):
        for step in (stride, 1, 1):
            x = inverted(net, x, 3, out, step, k, narrow, "hsigmoid")
    x = net.gap(net.conv(x, 40, 1))
    x = net.conv(x, 48, 1, norm=None)
    net.output(net.linear(net.flatten(x), 10))


@skeleton()
def mnasnet(net: Net):
    x = net.conv(net.images(3, 32), 16, stride=2)
    x = net.conv(net.depthwise(x), 8, 1, act=None)
    for out, stride, k in ((12, 2, 3), (20, 2, 5)):
        for step in (stride, 1, 1):
            x = inverted(net, x, 3, out, step, k)
    x = net.conv(x, 48, 1)
    net.output(net.linear(net.op("Dropout", net.reduce("ReduceMean", x, 2, 3, keep=False)), 10))


@skeleton(act="silu")
def efficientnet_v1(net: Net):
    x = net.conv(net.images(3, 32), 12, stride=2)
    x = inverted(net, x, 1, 8, narrow=4)
    for out, stride, k in ((12, 2, 3), (16, 2, 5)):
        for step in (stride, 1):
            x = inverted(net, x, 4, out, step, k, narrow=4)
    net.classify(net.conv(x, 48, 1))


@skeleton(norm="fold", act="silu")
def efficientnet_v2(net: Net):
    """Blocks whose first two layers are one full convolution, then inverted residuals."""
    x = net.conv(net.images(3, 24), 12, stride=2)
    for _ in range(2):
        x = net.add(x, net.conv(x, 12))
    for step in (2, 1):
        y = net.conv(net.conv(x, 36, stride=step), 16, 1, act=None)
        x = net.add(x, y) if step == 1 else y
    for step in (1, 1, 1):
        x = inverted(net, x, 3, 20, step, narrow=5)
    net.classify(net.conv(x, 48, 1), how="traced")


@skeleton()
def ghostnet(net: Net):
    """Half of the channels are made from the other half by cheap depthwise convolutions."""

    def ghost(x, out, act):
        first = net.conv(x, out // 2, 1, act=act)
        return net.concat(first, net.depthwise(first, act=act))

    x = net.conv(net.images(3, 24), 12, stride=2)
    for inner, out, stride in ((32, 16, 1), (48, 24, 2)):
        for step in (stride, 1):
            y = ghost(x, inner, "relu")
            if step > 1:
                y = net.depthwise(y, stride=step, act=None)
            y = ghost(net.squeeze_excite(y, 8, "hsigmoid"), out, None)
            if step > 1 or net.width(x) != out:
                x = net.conv(net.depthwise(x, stride=step, act=None), out, 1, act=None)
            x = net.add(x, y)
    net.classify(net.conv(x, 48, 1))


def shuffled(net: Net, x: str, groups: int, how: str) -> str:
    channels, side = net.width(x), net.width(x, 2)
    if how == "traced":
        sizes = [net.op("Gather", net.op("Shape", x), net.const(np.int64(axis)), axis=0) for axis in range(4)]
        inner = net.op("Div", sizes[1], net.const(np.int64(groups)))
        listed = lambda *parts: net.op("Concat", *(p if isinstance(p, str) and p.startswith("c") else net.unsqueeze(p, 0) for p in parts), axis=0)
        y = net.op("Reshape", x, listed(sizes[0], net.ints(groups), inner, sizes[2], sizes[3]))
        y = net.transpose(y, 0, 2, 1, 3, 4)
        return net.op("Reshape", y, listed(sizes[0], net.ints(-1), sizes[2], sizes[3]))
    y = net.reshape(x, -1, groups, channels // groups, side, side)
    return net.reshape(net.transpose(y, 0, 2, 1, 3, 4), -1, channels, side, side)


@skeleton(norm="fold", held="Blocks of grouped convolutions and the shuffles between them tie all channels to one.")
def shufflenet_v1(net: Net):
    """Grouped pointwise convolutions with a shuffle between them."""
    x = net.conv(net.images(3, 32), 16, stride=2)
    for inner, out, stride in ((16, 32, 2), (24, 48, 2)):
        for step in (stride, 1, 1):
            rest = out - net.width(x) if step > 1 else out
            y = shuffled(net, net.conv(x, inner, 1, groups=4), 4, "fixed")
            y = net.depthwise(y, stride=step, act=None)
            y = net.conv(y, rest, 1, groups=4, act=None)
            if step > 1:
                short = net.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
                x = net.op("Relu", net.concat(short, y))
            else:
                x = net.op("Relu", net.add(x, y))
    net.classify(x)


def shufflenet(net: Net, how: str, widths=(24, 40)):
    x = net.maxpool(net.conv(net.images(3, 40), 12, stride=2))
    for out in widths:
        half = out // 2
        left = net.conv(net.depthwise(x, stride=2, act=None), half, 1)
        right = net.conv(net.depthwise(net.conv(x, half, 1), stride=2, act=None), half, 1)
        x = shuffled(net, net.concat(left, right), 2, how)
        for _ in range(3):
            if how == "traced":
                size = net.op("Gather", net.op("Shape", x), net.const(np.int64(1)), axis=0)
                part = net.op("Div", net.op("Add", size, net.const(np.int64(1))), net.const(np.int64(2)))
                ends = [net.unsqueeze(net.op("Mul", part, net.const(np.int64(n))), 0) for n in (1, 2)]
                left = net.op("Slice", x, net.ints(0), ends[0], net.ints(1))
                right = net.op("Slice", x, ends[0], ends[1], net.ints(1))
            else:
                left, right = net.split(x, half, half)
            right = net.conv(net.depthwise(net.conv(right, half, 1), act=None), half, 1)
            x = shuffled(net, net.concat(left, right), 2, how)
    x = net.conv(x, 48, 1)
    net.output(net.linear(net.reduce("ReduceMean", x, 2, 3, keep=False), 10))


@skeleton(norm="fold")
def shufflenet_v2(net: Net):
    shufflenet(net, "fixed")


@skeleton(norm="fold")
def shufflenet_v2_traced(net: Net):
    """All sizes of the shuffle and bounds of the halves are computed in the graph."""
    shufflenet(net, "traced")


@skeleton(norm=None)
def convnext(net: Net):
    x = net.layernorm2d(net.conv(net.images(3, 32), 16, 4, 4, pad=0, act=None))
    for out in (16, 32):
        if out != net.width(x):
            x = net.conv(net.layernorm2d(x), out, 2, 2, pad=0, act=None)
        for _ in range(2):
            y = net.transpose(net.depthwise(x, 7, act=None), 0, 2, 3, 1)
            y = net.linear(net.linear(net.layernorm(y), out * 2, "gelu"), out)
            y = net.op("Mul", net.const(net.random.uniform(0.3, 0.8, out).astype(np.float32)), y)
            x = net.add(x, net.transpose(y, 0, 3, 1, 2))
    x = net.layernorm(net.reduce("ReduceMean", x, 2, 3, keep=False))
    net.output(net.linear(x, 10))


@skeleton(act="gelu")
def convmixer(net: Net):
    x = net.batchnorm(net.conv(net.images(3, 24), 24, 3, 3, norm=None, act="gelu", pad=0))
    for _ in range(3):
        x = net.add(x, net.batchnorm(net.depthwise(x, 5, norm=None, act="gelu")))
        x = net.batchnorm(net.conv(x, 24, 1, norm=None, act="gelu"))
    net.classify(x)


@skeleton()
def mobileone(net: Net):
    """Several branches of a depthwise and a pointwise convolution, summed before the activation."""
    x = net.conv(net.images(3, 24), 16, stride=2)
    for out, stride in ((24, 2), (24, 1), (36, 1), (36, 1)):
        parts = [net.depthwise(x, 3, stride=stride, act=None) for _ in range(2)]
        parts.append(net.depthwise(x, 1, stride=stride, act=None))
        if stride == 1:
            parts.append(net.batchnorm(x))
        x = net.op("Relu", net.add(*parts))
        parts = [net.conv(x, out, 1, act=None) for _ in range(2)]
        if net.width(x) == out:
            parts.append(net.batchnorm(x))
        x = net.op("Relu", net.add(*parts))
    net.classify(x)


@skeleton(norm="fold")
def xception(net: Net):
    x = net.conv(net.conv(net.images(3, 24), 12, stride=2), 20)
    for out in (28, 40):
        y = net.conv(net.depthwise(x, norm=None, act=None), out, 1)
        y = net.conv(net.depthwise(y, norm=None, act=None), out, 1, act=None)
        x = net.add(net.maxpool(y), net.conv(x, out, 1, 2, act=None))
        for _ in range(2):
            y = x
            for _ in range(2):
                y = net.conv(net.depthwise(net.op("Relu", y), norm=None, act=None), out, 1, act=None)
            x = net.add(x, y)
    net.classify(net.op("Relu", x))
