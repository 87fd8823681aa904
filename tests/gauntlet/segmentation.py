"""Networks that go down in resolution and up again."""

import numpy as np
from net import Net, skeleton


def double(net: Net, x: str, out: int) -> str:
    return net.conv(net.conv(x, out), out)


@skeleton()
def unet_transposed(net: Net):
    x = net.images(3, 32)
    levels = []
    for width in (12, 20, 28):
        x = double(net, x, width)
        levels.append(x)
        x = net.maxpool(x, 2, pad=0)
    x = double(net, x, 36)
    for level in reversed(levels):
        width = net.width(level)
        up = net.conv(x, width, 2, 2, transposed=True, norm=None, act=None)
        x = double(net, net.concat(level, up), width)
    net.output(net.conv(x, 3, 1, norm=None, act=None))


@skeleton(norm="fold")
def unet_resized(net: Net):
    """Sizes to resize to are read from the levels to join."""
    x = net.images(3, 32)
    levels = []
    for width in (12, 20, 28):
        x = double(net, x, width)
        levels.append(x)
        x = net.maxpool(x, 2, pad=0)
    x = double(net, x, 36)
    for level in reversed(levels):
        x = double(net, net.concat(net.resize_like(x, level), level), net.width(level))
    net.output(net.op("Sigmoid", net.conv(x, 2, 1, norm=None, act=None)), shape=["N", 2, 32, 32])


@skeleton()
def unet_attention(net: Net):
    """Gates on the skipped levels, from what comes from below."""
    x = net.images(3, 24)
    levels = []
    for width in (12, 20):
        x = double(net, x, width)
        levels.append(x)
        x = net.maxpool(x, 2, pad=0)
    x = double(net, x, 28)
    for level in reversed(levels):
        width = net.width(level)
        up = net.conv(net.resize(x), width)
        gate = net.add(net.conv(up, 8, 1, act=None), net.conv(level, 8, 1, act=None))
        gate = net.conv(net.op("Relu", gate), 1, 1, act="sigmoid")
        x = double(net, net.concat(net.op("Mul", level, gate), up), width)
    net.output(net.conv(x, 3, 1, norm=None, act=None))


@skeleton(norm="fold")
def unet_plus_plus(net: Net):
    """Nested skips: every level is joined with all before it and with the one below, and all heads are outputs."""
    x = net.images(3, 16)
    column = []
    for width in (12, 16, 20):
        x = double(net, x, width)
        column.append([x])
        x = net.maxpool(x, 2, pad=0)
    for deep in (1, 2):
        for level in range(3 - deep):
            row = column[level]
            below = net.resize(column[level + 1][deep - 1])
            row.append(double(net, net.concat(*row, below), net.width(row[0])))
    for value in column[0][1:]:
        net.output(net.conv(value, 2, 1, norm=None, act=None))


@skeleton()
def segnet(net: Net):
    """Pools that remember where their maxima were, and put values back there."""
    x = net.images(3, 24)
    stack = []
    for width in (16, 24):
        x = double(net, x, width)
        stack.append((width, x))
        x, places = net.op("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
        stack[-1] = (*stack[-1], places)
    for width, before, places in reversed(stack):
        shape = net.op("Shape", before)
        x = net.conv(x, width)
        x = net.op("MaxUnpool", x, places, shape, kernel_shape=[2, 2], strides=[2, 2])
        x = net.conv(x, width)
        x = net.conv(x, width if width == 16 else 16)
    net.output(net.conv(x, 3, norm=None, act=None), shape=["N", 3, 24, 24])


@skeleton()
def deeplab(net: Net):
    """Dilated stages, kernels of several dilations and a mean over the image side by side, then a decoder."""
    x = net.conv(net.images(3, 32), 12, 3, 2)
    for out, stride, dilation in ((16, 2, 1), (24, 1, 2), (32, 1, 4)):
        for step in (stride, 1):
            y = net.conv(net.conv(x, out, 3, step, dilation=dilation), out, dilation=dilation, act=None)
            if net.width(x) != out:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(x, y))
        low = x if out == 16 else low
    branches = [net.conv(x, 16, 1)] + [net.conv(x, 16, dilation=d) for d in (2, 3, 4)]
    mean = net.conv(net.gap(x), 16, 1, norm=None)
    branches.append(net.resize_like(mean, x))
    x = net.op("Dropout", net.conv(net.concat(*branches), 24, 1))
    x = double(net, net.concat(net.resize_like(x, low), net.conv(low, 8, 1)), 24)
    net.output(net.resize(net.conv(x, 4, 1, norm=None, act=None), 4, "linear"), shape=["N", 4, 32, 32])


@skeleton(norm="fold")
def pspnet(net: Net):
    """Means over a grid of bins, resized and joined."""
    x = net.conv(net.images(3, 24), 16, 3, 2)
    for _ in range(3):
        x = net.op("Relu", net.add(x, net.conv(net.conv(x, 16), 16, act=None)))
    parts = [x]
    for bins in (1, 2, 3, 6):
        y = net.avgpool(x, 12 // bins, 12 // bins)
        parts.append(net.resize(net.conv(y, 8, 1), 12 // bins, "linear"))
    x = net.conv(net.conv(net.concat(*parts), 24), 24)
    net.output(net.conv(x, 4, 1, norm=None, act=None))


@skeleton()
def hrnet(net: Net):
    """Branches of three resolutions that go side by side and are added into one another."""

    def block(x):
        out = net.width(x)
        return net.op("Relu", net.add(x, net.conv(net.conv(x, out), out, act=None)))

    def fuse(branches, widths):
        made = []
        for target, width in enumerate(widths):
            parts = []
            for source, x in enumerate(branches):
                if source == target:
                    parts.append(x)
                elif source > target:
                    parts.append(net.resize(net.conv(x, width, 1, act=None), 2 ** (source - target)))
                else:
                    for step in range(target - source):
                        last = step + 1 == target - source
                        x = net.conv(x, width if last else net.width(x), 3, 2, act=None if last else "relu")
                    parts.append(x)
            made.append(net.op("Relu", net.add(*parts)))
        return made

    x = net.conv(net.images(3, 32), 16, 3, 2)
    widths = [10, 14, 20]
    branches = [net.conv(x, 10), net.conv(x, 14, 3, 2)]
    for number in range(2):
        branches = [block(block(x)) for x in branches]
        if number == 1:
            branches.append(net.conv(branches[-1], 20, 3, 2))
        branches = fuse(branches, widths[: len(branches)])
    branches = fuse([block(block(x)) for x in branches], widths)
    up = [branches[0], *(net.resize(x, 2**n, "linear") for n, x in enumerate(branches) if n)]
    net.output(net.conv(net.conv(net.concat(*up), 24, 1), 5, 1, norm=None, act=None))


@skeleton()
def hourglass(net: Net):
    """Two hourglasses in a row, each with an output that goes back into the stream."""

    def block(x, out):
        y = net.conv(net.op("Relu", net.batchnorm(x)), out // 2, 1)
        y = net.conv(net.conv(y, out // 2), out, 1, norm=None, act=None)
        short = x if net.width(x) == out else net.conv(x, out, 1, norm=None, act=None)
        return net.add(short, y)

    def glass(x, depth):
        up = block(x, 24)
        low = block(net.maxpool(x, 2, pad=0), 24)
        low = glass(low, depth - 1) if depth > 1 else block(low, 24)
        return net.add(up, net.resize(block(low, 24)))

    x = block(net.conv(net.images(3, 24), 16), 24)
    for number in range(2):
        y = net.conv(block(glass(x, 2), 24), 24, 1)
        heat = net.conv(y, 4, 1, norm=None, act=None)
        if number == 0:
            back = net.conv(heat, 24, 1, norm=None, act=None)
            x = net.add(x, net.conv(y, 24, 1, norm=None, act=None), back)
        net.output(heat)


@skeleton(norm="fold")
def fcn(net: Net):
    """Scores of three depths, added up by transposed convolutions."""
    x = net.images(3, 32)
    levels = []
    for width in (12, 20, 28):
        x = net.maxpool(double(net, x, width), 2, pad=0)
        levels.append(net.conv(x, 4, 1, norm=None, act=None))
    y = levels[-1]
    for level in reversed(levels[:-1]):
        y = net.add(net.conv(y, 4, 4, 2, transposed=True, norm=None, act=None), level)
    net.output(net.conv(y, 4, 4, 2, transposed=True, norm=None, act=None))


@skeleton(norm="fold")
def bisenet(net: Net):
    """A detailed and a wide path, each of which gates the other."""
    image = net.images(3, 32)
    detail = net.conv(net.conv(net.conv(image, 12, 3, 2), 16, 3, 2), 20)
    wide = net.conv(image, 10, 3, 2)
    for step in (2, 2, 1, 1):
        y = net.conv(net.depthwise(net.conv(wide, 30, 1), stride=step), 20, 1, act=None)
        if step > 1 or net.width(wide) != 20:
            wide = net.conv(net.depthwise(wide, stride=step, act=None), 20, 1, act=None)
        wide = net.op("Relu", net.add(wide, y))
    gate = net.resize(net.conv(wide, 20, act="sigmoid"))
    left = net.op("Mul", net.conv(net.depthwise(detail, act=None), 20, 1, act=None), gate)
    down = net.op("AveragePool", net.conv(detail, 20, 3, 2, act=None), kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    right = net.op("Mul", down, net.conv(net.depthwise(wide, act=None), 20, 1, act="sigmoid"))
    x = net.conv(net.add(left, net.resize(right)), 20)
    net.output(net.conv(x, 4, 1, norm=None, act=None))
