"""Residual networks of images."""

import numpy as np
from net import Net, skeleton


def basic(net: Net, x: str, out: int, stride: int = 1, **options) -> str:
    y = net.conv(x, out, stride=stride, **options)
    y = net.conv(y, out, act=None, **options)
    if stride > 1 or net.width(x) != out:
        x = net.conv(x, out, 1, stride, act=None, **options)
    return net.activate(net.add(y, x), net.act)


def bottleneck(net: Net, x: str, inner: int, out: int, stride: int = 1, groups: int = 1, middle=None) -> str:
    y = net.conv(x, inner, 1)
    y = net.conv(y, inner, stride=stride, groups=groups)
    y = middle(y) if middle else y
    y = net.conv(y, out, 1, act=None)
    if stride > 1 or net.width(x) != out:
        x = net.conv(x, out, 1, stride, act=None)
    return net.activate(net.add(y, x), net.act)


@skeleton(norm="fold")
def resnet_basic(net: Net):
    x = net.maxpool(net.conv(net.images(3, 32), 16, 7, 2))
    for out, stride in ((16, 1), (24, 2), (40, 2)):
        x = basic(net, x, out, stride)
        x = basic(net, x, out)
    net.classify(x)


@skeleton()
def resnet_equal_widths(net: Net):
    x = net.conv(net.images(3, 20), 16)
    for _ in range(4):
        x = basic(net, x, 16)
    net.classify(x, how="traced")


@skeleton()
def resnet_option_a(net: Net):
    """CIFAR ResNet: shortcuts that are strided and padded with zeros along the channels."""
    x = net.conv(net.images(3, 24), 16)
    for out in (16, 24, 36):
        for number in range(3):
            y = net.conv(x, out, stride=2 if out > 16 and number == 0 else 1)
            y = net.conv(y, out, act=None)
            if out != net.width(x):
                x = net.op("Slice", x, net.ints(0, 0), net.ints(2**31, 2**31), net.ints(2, 3), net.ints(2, 2))
                more = out - net.width(x)
                x = net.pad(x, [0, more // 2, 0, 0, 0, more - more // 2, 0, 0])
            x = net.op("Relu", net.add(y, x))
    net.classify(x)


@skeleton()
def resnet_bottleneck(net: Net):
    x = net.maxpool(net.conv(net.images(3, 32), 16, 7, 2))
    for inner, out, stride in ((12, 32, 1), (16, 48, 2)):
        x = bottleneck(net, x, inner, out, stride)
        x = bottleneck(net, x, inner, out)
        x = bottleneck(net, x, inner, out)
    net.classify(x, how="traced")


@skeleton()
def resnet_preactivation(net: Net):
    x = net.conv(net.images(3, 24), 16, norm=None, act=None)
    for out, stride in ((16, 1), (32, 2)):
        for number in range(2):
            pre = net.op("Relu", net.batchnorm(x))
            step = stride if number == 0 else 1
            y = net.conv(pre, out, stride=step)
            y = net.conv(y, out, norm=None, act=None)
            if out != net.width(x):
                x = net.conv(pre, out, 1, step, norm=None, act=None)
            x = net.add(x, y)
    net.classify(net.op("Relu", net.batchnorm(x)))


@skeleton(norm="fold")
def resnet_wide(net: Net):
    x = net.conv(net.images(3, 20), 16)
    for out, stride in ((32, 1), (48, 2)):
        x = basic(net, x, out, stride)
        x = basic(net, x, out)
    net.classify(x)


@skeleton()
def resnet_d(net: Net):
    """A deep stem, and shortcuts that are averaged before they are projected."""
    x = net.conv(net.images(3, 32), 12, stride=2)
    x = net.maxpool(net.conv(net.conv(x, 12), 20))
    for out, stride in ((20, 1), (32, 2)):
        for number in range(2):
            step = stride if number == 0 else 1
            y = net.conv(net.conv(net.conv(x, 12, 1), 12, stride=step), out, 1, act=None)
            if step > 1:
                x = net.avgpool(x)
            if net.width(x) != out:
                x = net.conv(x, out, 1, act=None)
            x = net.op("Relu", net.add(y, x))
    net.classify(x)


@skeleton(norm="affine")
def resnet_affine(net: Net):
    """BatchNorm that an exporter left as Mul and Add."""
    x = net.conv(net.images(3, 24), 16)
    for out, stride in ((16, 1), (28, 2)):
        x = basic(net, x, out, stride)
        x = basic(net, x, out)
    net.classify(x)


@skeleton(norm="gn", act="relu")
def resnet_groupnorm(net: Net):
    x = net.conv(net.images(3, 20), 16)
    for out, stride in ((16, 1), (32, 2)):
        x = basic(net, x, out, stride)
        x = basic(net, x, out)
    net.classify(x)


@skeleton(norm="fold")
def resnext(net: Net):
    x = net.conv(net.images(3, 24), 16)
    for inner, out, stride in ((16, 32, 1), (24, 48, 2)):
        x = bottleneck(net, x, inner, out, stride, groups=4)
        x = bottleneck(net, x, inner, out, groups=4)
    net.classify(x)


@skeleton()
def res2net(net: Net):
    """Bottlenecks whose middle is split into parts that go through one another."""
    x = net.conv(net.images(3, 24), 16)
    for inner, out, stride in ((24, 32, 1), (32, 48, 2)):
        for number in range(2):
            step = stride if number == 0 else 1
            parts = net.split(net.conv(x, inner, 1), *[inner // 4] * 4)
            done, before = [], None
            for part in parts[:3]:
                part = part if before is None or step > 1 else net.add(part, before)
                before = net.conv(part, inner // 4, stride=step)
                done.append(before)
            done.append(net.op("AveragePool", parts[3], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4) if step > 1 else parts[3])
            y = net.conv(net.concat(*done), out, 1, act=None)
            if step > 1 or net.width(x) != out:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(y, x))
    net.classify(x)


@skeleton()
def resnet_se(net: Net):
    x = net.conv(net.images(3, 24), 16)
    for inner, out, stride in ((12, 24, 1), (16, 40, 2)):
        for step in (stride, 1):
            y = net.conv(net.conv(net.conv(x, inner, 1), inner, stride=step), out, 1, act=None)
            y = net.squeeze_excite(y, 6)
            if net.width(x) != out:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(y, x))
    net.classify(x)


@skeleton()
def vovnet_ese(net: Net):
    """One-shot aggregation: all outputs of a stage are joined once, and gated by their means."""
    x = net.conv(net.images(3, 32), 16, stride=2)
    for inner, out in ((12, 32), (16, 48)):
        for number in range(2):
            parts, y = [x], x
            for _ in range(3):
                y = net.conv(y, inner)
                parts.append(y)
            y = net.conv(net.concat(*parts), out, 1)
            gate = net.conv(net.gap(y), out, 1, norm=None, act="hsigmoid")
            y = net.op("Mul", y, gate)
            x = net.add(x, y) if net.width(x) == out else y
        x = net.maxpool(x)
    net.classify(x)


@skeleton(norm="fold")
def resnet_cbam(net: Net):
    """Gates of the channels from two pools with shared layers, then gates of the positions from mean and maximum."""
    x = net.conv(net.images(3, 20), 16)
    for out, stride in ((16, 1), (32, 2)):
        for step in (stride, 1):
            y = net.conv(net.conv(x, out, stride=step), out, act=None)
            first, second = (net.weight(6, out, 1, 1, fan_in=out), net.weight(out, 6, 1, 1, fan_in=6))
            first, second = net.const(first), net.const(second)
            both = [net.op("Conv", net.op("Relu", net.op("Conv", pooled, first)), second)
                    for pooled in (net.gap(y), net.op("GlobalMaxPool", y))]  # fmt: skip
            y = net.op("Mul", y, net.op("Sigmoid", net.add(*both)))
            flat = net.concat(net.reduce("ReduceMean", y, 1), net.reduce("ReduceMax", y, 1))
            y = net.op("Mul", y, net.conv(flat, 1, 7, norm=None, act="sigmoid"))
            if net.width(x) != out:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(y, x))
    net.classify(x)


@skeleton()
def sknet(net: Net):
    """Two kernels whose outputs are weighed by a softmax over the two, for each channel."""
    x = net.conv(net.images(3, 24), 16)
    for out, stride in ((16, 1), (32, 2)):
        for step in (stride, 1):
            y = net.conv(x, 20, 1)
            small, large = net.conv(y, 20, stride=step), net.conv(y, 20, stride=step, dilation=2)
            z = net.conv(net.gap(net.add(small, large)), 8, 1)
            both = [net.unsqueeze(net.conv(z, 20, 1, norm=None, act=None), 1) for _ in range(2)]
            gates = net.op("Softmax", net.concat(*both), axis=1)
            stacked = net.concat(net.unsqueeze(small, 1), net.unsqueeze(large, 1))
            y = net.reduce("ReduceSum", net.op("Mul", stacked, gates), 1, keep=False)
            y = net.conv(y, out, 1, act=None)
            if net.width(x) != out or step > 1:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(y, x))
    net.classify(x)


@skeleton(norm="fold")
def regnet_x(net: Net):
    x = net.conv(net.images(3, 32), 16, stride=2)
    for out, stride in ((16, 2), (32, 2)):
        x = bottleneck(net, x, out, out, stride, groups=out // 8)
        x = bottleneck(net, x, out, out, groups=out // 8)
        x = bottleneck(net, x, out, out, groups=out // 8)
    net.classify(x)


@skeleton()
def regnet_y(net: Net):
    x = net.conv(net.images(3, 32), 16, stride=2)
    for out, stride in ((24, 2), (40, 2)):
        x = bottleneck(net, x, out, out, stride, groups=2, middle=lambda y: net.squeeze_excite(y, 6))
        x = bottleneck(net, x, out, out, groups=2, middle=lambda y: net.squeeze_excite(y, 6))
    net.classify(x, how="traced")


@skeleton(norm="fold")
def resnet_nonlocal(net: Net):
    """Non-local blocks: products of positions between residual blocks."""
    x = net.conv(net.images(3, 20), 16, stride=2)
    for out in (16, 32):
        x = basic(net, x, out, 1 if out == 16 else 2)
        x = basic(net, x, out)
        for _ in range(2):
            q, k, v = (net.conv(x, 12, 1, norm=None, act=None) for _ in range(3))
            side = net.width(x, 2)
            q, k, v = (net.reshape(part, 0, 12, side * side) for part in (q, k, v))
            scores = net.op("MatMul", net.transpose(q, 0, 2, 1), k)
            scores = net.op("Softmax", net.op("Mul", scores, net.number(12**-0.5)), axis=-1)
            y = net.op("MatMul", scores, net.transpose(v, 0, 2, 1))
            y = net.reshape(net.transpose(y, 0, 2, 1), 0, 12, side, side)
            x = net.add(x, net.conv(y, out, 1, act=None))
    net.classify(x)


@skeleton(norm="fold")
def resnest(net: Net):
    """Split attention: a grouped convolution whose halves are weighed and summed."""
    x = net.conv(net.images(3, 24), 16)
    for out, stride in ((16, 1), (32, 2)):
        for step in (stride, 1):
            y = net.conv(net.conv(x, 16, 1), 32, stride=step, groups=2)
            halves = net.split(y, 16, 16)
            z = net.conv(net.gap(net.add(*halves)), 8, 1)
            z = net.reshape(net.conv(z, 32, 1, norm=None, act=None), 0, 2, 16)
            z = net.split(net.op("Softmax", z, axis=1), 1, 1)
            parts = [net.op("Mul", half, net.reshape(gate, 0, 16, 1, 1)) for half, gate in zip(halves, z)]
            y = net.conv(net.add(*parts), out, 1, act=None)
            if net.width(x) != out or step > 1:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(y, x))
    net.classify(x)
