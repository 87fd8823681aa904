"""Networks of vectors, points, tables and volumes."""

import numpy as np
from net import Net, skeleton


@skeleton()
def mlp_skips(net: Net):
    x = net.linear(net.vectors(20), 32, "relu", gain=1.4)
    for _ in range(3):
        y = net.linear(net.linear(x, 48, "relu", gain=1.4), 32)
        x = net.op("Relu", net.add(x, y))
    net.output(net.linear(x, 6))


@skeleton()
def mlp_dense_skips(net: Net):
    """The input comes back at every layer."""
    start = net.vectors(12)
    x = start
    for width in (32, 32, 40):
        x = net.batchnorm(net.linear(x, width, "relu", gain=1.4))
        x = net.concat(x, start)
    net.output(net.linear(x, 5))


@skeleton()
def mlp_matmul(net: Net):
    """Products without Gemm, a bias before the product's result, weights that are turned in the graph."""
    x = net.vectors(16)
    for width in (32, 40, 24):
        ci = net.shape(x)[1]
        turned = net.transpose(net.const(net.weight(width, ci, fan_in=ci)), 1, 0)
        x = net.op("Relu", net.op("Add", net.const(net.normal(width, scale=0.3)), net.op("MatMul", x, turned)))
    net.output(net.op("MatMul", x, net.const(net.normal(24, 5, scale=0.2))))


@skeleton()
def autoencoder_mlp(net: Net):
    x = net.vectors(32)
    for width in (40, 24, 8, 24, 40):
        x = net.linear(x, width, None if width == 8 else "elu")
    net.output(net.linear(x, 32))


@skeleton()
def autoencoder_linear(net: Net):
    """No activation between layers: what stays may be any combination of the channels."""
    x = net.linear(net.vectors(24), 40, "relu")
    for _ in range(2):
        x = net.linear(net.linear(x, 24), 40, "relu")
    net.output(net.linear(x, 24))


def pointed(net: Net, x: str, widths) -> str:
    for width in widths:
        x = net.conv(x, width, 1)
    return x


@skeleton(norm="fold")
def pointnet(net: Net):
    """Points one by one, each turned by a matrix that is told from all; maxima, and all of it again for each point."""
    x = net.series(3, 32, "points")
    for ci, widths in ((3, (16, 32)), (20, (24, 40))):
        y = net.op("GlobalMaxPool", pointed(net, x, widths))
        y = net.linear(net.linear(net.flatten(y), 24, "relu"), ci * ci, gain=0.5)
        turn = net.op("Add", net.reshape(y, -1, ci, ci), net.const(np.eye(ci, dtype=np.float32)))
        x = net.transpose(net.op("MatMul", net.transpose(x, 0, 2, 1), turn), 0, 2, 1)
        if ci == 3:
            x = local = pointed(net, x, (16, 20))
    whole = net.op("GlobalMaxPool", pointed(net, x, (24, 40)))
    net.output(net.linear(net.linear(net.flatten(whole), 32, "relu"), 8))
    spread = net.op("Expand", whole, net.op("Concat", net.traced_size(x, 0), net.ints(40, 32), axis=0))
    net.output(net.conv(pointed(net, net.concat(local, spread), (32, 24)), 4, 1, norm=None, act=None))


@skeleton(norm="fold")
def dgcnn(net: Net):
    """Differences to the next points, gathered by numbers that are computed in the graph."""
    x = net.series(3, 16, "points")
    outs = []
    for width in (16, 24):
        flat = net.transpose(x, 0, 2, 1)
        inner = net.op("MatMul", flat, x)
        square = net.reduce("ReduceSum", net.op("Mul", x, x), 1)
        near = net.op("Sub", net.op("Sub", net.op("Mul", inner, net.number(2)), square), net.transpose(square, 0, 2, 1))
        _, at = net.op("TopK", near, net.ints(4), outputs=2, axis=-1)
        at = net.op("Reshape", at, net.ints(0, 64))
        index = net.op("Expand", net.unsqueeze(at, 1), net.op("Concat", net.traced_size(x, 0), net.ints(net.width(x), 64), axis=0))
        found = net.reshape(net.op("GatherElements", x, index, axis=2), 0, net.width(x), 16, 4)
        own = net.unsqueeze(x, 3)
        spread = net.op("Expand", own, net.op("Shape", found))
        y = net.concat(net.op("Sub", found, own), spread)
        x = net.reduce("ReduceMax", pointed(net, y, (width, width)), 3, keep=False)
        outs.append(x)
    x = net.conv(net.concat(*outs), 40, 1)
    both = net.concat(net.op("GlobalMaxPool", x), net.gap(x))
    net.output(net.linear(net.linear(net.flatten(both), 32, "relu"), 6))


@skeleton()
def resnet_3d(net: Net):
    x = net.conv(net.images(2, 12, rank=3), 12, (3, 5, 5), (1, 2, 2))
    for out, stride in ((12, 1), (20, 2)):
        for step in (stride, 1):
            y = net.conv(net.conv(x, out, stride=step), out, act=None)
            if step > 1 or net.width(x) != out:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(x, y))
    net.classify(x)


@skeleton(norm="fold")
def r2plus1d(net: Net):
    """Kernels over space and over time one after the other."""
    x = net.conv(net.images(2, 10, rank=3), 12, (1, 3, 3), (1, 2, 2))
    for out in (16, 16, 24):
        y = x
        for act in ("relu", None):
            y = net.conv(net.conv(y, 20, (1, 3, 3)), out, (3, 1, 1), act=act)
        short = x if net.width(x) == out else net.conv(x, out, 1, act=None)
        x = net.op("Relu", net.add(short, y))
    net.classify(x)


@skeleton(norm="in", act="leaky")
def vnet_3d(net: Net):
    """A U-Net of volumes."""
    x = net.conv(net.images(1, 12, rank=3), 8)
    levels = []
    for width in (12, 20):
        y = net.conv(net.conv(x, width), width, act=None)
        x = net.activate(net.add(y, net.conv(x, width, 1, norm=None, act=None)), "leaky")
        levels.append(x)
        x = net.conv(x, width, 2, 2, pad=0)
    x = net.conv(net.conv(x, 24), 24)
    for level in reversed(levels):
        width = net.width(level)
        x = net.concat(net.conv(x, width, 2, 2, transposed=True), level)
        x = net.conv(net.conv(x, width), width)
    net.output(net.conv(x, 2, 1, norm=None, act=None))


@skeleton()
def recommender(net: Net):
    """Tables of several things, products of their rows, a wide and a deep part."""
    numbers = net.vectors(8, "numbers")
    parts = [net.linear(net.linear(numbers, 24, "relu"), 16, "relu")]
    for name, size in (("user", 40), ("item", 60), ("place", 12)):
        rows = net.squeeze(net.tokens(1, size, name), 1)
        parts.append(net.op("Gather", net.const(net.normal(size, 16, scale=0.7)), rows))
    stacked = net.concat(*(net.unsqueeze(part, 1) for part in parts))
    crossed = net.op("MatMul", stacked, net.transpose(stacked, 0, 2, 1))
    crossed = net.reshape(crossed, -1, 16)
    deep = net.linear(net.linear(net.concat(*parts, crossed), 40, "relu", gain=1.4), 24, "relu", gain=1.4)
    net.output(net.op("Sigmoid", net.add(net.linear(deep, 1), net.linear(numbers, 1))))


@skeleton()
def two_towers(net: Net):
    """Two inputs, each with its own layers, and the product of what they make."""
    towers = []
    for name in ("question", "answer"):
        x = net.linear(net.vectors(16, name), 32, "relu", gain=1.4)
        x = net.linear(net.linear(x, 32, "relu", gain=1.4), 24)
        towers.append(net.op("LpNormalization", x, axis=1, p=2))
    net.output(net.reduce("ReduceSum", net.op("Mul", *towers), 1))


@skeleton()
def graph_network(net: Net):
    """Sums over neighbours by a matrix that is an input, with gates of attention in the second part."""
    nodes = net.series(8, 10, "nodes", last=True)
    edges = (net.random.random((net.samples, 10, 10)) < 0.3) | np.eye(10, dtype=bool)
    edges = edges / edges.sum(2, keepdims=True)
    edges = net.input("edges", edges.astype(np.float32))
    x = nodes
    for width in (24, 32, 32):
        y = net.op("MatMul", edges, net.linear(x, width))
        x = net.op("Relu", net.add(y, net.linear(x, width)))
    net.output(net.linear(net.reduce("ReduceMax", x, 1, keep=False), 6))
    net.output(net.linear(net.linear(x, 24, "relu"), 3))


@skeleton(norm="fold")
def bilinear_pooling(net: Net):
    """Products of the channels of two branches, flattened into one axis."""
    image = net.images(3, 16)
    left, right = image, image
    for width in (12, 12):
        left, right = net.conv(left, width), net.conv(right, width + 4)
    left, right = (net.reshape(x, 0, net.width(x), 256) for x in (left, right))
    y = net.op("Div", net.op("MatMul", left, net.transpose(right, 0, 2, 1)), net.number(256))
    net.output(net.linear(net.linear(net.flatten(y), 24, "relu"), 5))


@skeleton(norm="fold")
def early_exits(net: Net):
    """A head at each stage."""
    x = net.images(3, 20)
    for width in (16, 24, 32):
        x = net.conv(net.conv(x, width), width)
        y = net.conv(x, 16, 1)
        net.classify(y, 6)
        x = net.maxpool(x, 2, pad=0)


@skeleton(norm="fold")
def policy_and_value(net: Net):
    """A game's board: residual blocks with gates that scale and shift, two heads."""
    x = net.conv(net.images(4, 9, "board"), 24)
    for _ in range(3):
        y = net.conv(net.conv(x, 24), 24, act=None)
        z = net.linear(net.linear(net.flatten(net.gap(y)), 12, "relu"), 48)
        scale, shift = net.split(net.unsqueeze(z, 2, 3), 24, 24)
        x = net.op("Relu", net.add(net.op("Mul", y, net.op("Sigmoid", scale)), shift, x))
    net.output(net.linear(net.flatten(net.conv(x, 4, 1)), 82))
    value = net.linear(net.flatten(net.conv(x, 2, 1)), 24, "relu")
    net.output(net.linear(value, 1, "tanh"))


@skeleton(norm="fold")
def spatial_transformer(net: Net):
    """A branch tells how the image is turned before the others read it."""
    x = net.images(1, 20)
    y = net.flatten(net.maxpool(net.conv(net.maxpool(net.conv(x, 12, 5), 2, pad=0), 16), 2, pad=0))
    theta = net.linear(net.linear(y, 24, "relu"), 6, gain=0.2)
    theta = net.op("Add", theta, net.const(np.array([1, 0, 0, 0, 1, 0], np.float32)))
    at = np.linspace(-1, 1, 20, dtype=np.float32)
    grid = np.stack([np.tile(at, 20), np.repeat(at, 20), np.ones(400, np.float32)])
    turned = net.op("MatMul", net.reshape(theta, -1, 2, 3), net.const(grid))
    turned = net.reshape(net.transpose(turned, 0, 2, 1), -1, 20, 20, 2)
    mode = "bilinear" if net.opset < 20 else "linear"
    x = net.op("GridSample", x, turned, mode=mode, padding_mode="border", align_corners=1)
    for width in (16, 16, 24, 24):
        x = net.conv(x, width)
    net.classify(x)
