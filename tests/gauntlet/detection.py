"""Detectors: several levels, heads that they share, parts that are joined and split again."""

import numpy as np
from net import Net, skeleton


def residual(net: Net, x: str, out: int, add: bool = True) -> str:
    y = net.conv(net.conv(x, out, 1), out)
    return net.add(x, y) if add else y


def c3(net: Net, x: str, out: int, blocks: int, add: bool = True) -> str:
    """CSP with three convolutions: one half goes through residual blocks."""
    left, right = net.conv(x, out // 2, 1), net.conv(x, out // 2, 1)
    for _ in range(blocks):
        left = residual(net, left, out // 2, add)
    return net.conv(net.concat(left, right), out, 1)


def c2f(net: Net, x: str, out: int, blocks: int, add: bool = True) -> str:
    """CSP whose parts are all joined."""
    half = out // 2
    parts = net.split(net.conv(x, out, 1), half, half)
    for _ in range(blocks):
        y = net.conv(net.conv(parts[-1], half), half)
        parts.append(net.add(parts[-1], y) if add else y)
    return net.conv(net.concat(*parts), out, 1)


def sppf(net: Net, x: str) -> str:
    out = net.width(x)
    parts = [net.conv(x, out // 2, 1)]
    for _ in range(3):
        parts.append(net.maxpool(parts[-1], 5, 1))
    return net.conv(net.concat(*parts), out, 1)


def pyramid(net: Net, levels: list[str], block) -> list[str]:
    """PAN: top down by resizing, then bottom up by strided convolutions."""
    p3, p4, p5 = levels
    m4 = block(net.concat(net.resize(p5), p4), net.width(p4))
    m3 = block(net.concat(net.resize(m4), p3), net.width(p3))
    m4 = block(net.concat(net.conv(m3, net.width(m3), 3, 2), m4), net.width(p4))
    m5 = block(net.concat(net.conv(m4, net.width(m4), 3, 2), p5), net.width(p5))
    return [m3, m4, m5]


@skeleton(norm="fold", act="silu")
def yolo_v5(net: Net):
    """Focus (slices of every second pixel), C3, SPPF, PAN and anchors that are decoded in the graph."""
    x = net.images(3, 32)
    parts = []
    for row in (0, 1):
        for column in (0, 1):
            y = net.slice(x, 2, row, 2**31, 2)
            parts.append(net.slice(y, 3, column, 2**31, 2))
    x = net.conv(net.concat(parts[0], parts[2], parts[1], parts[3]), 12)
    p3 = c3(net, net.conv(x, 16, 3, 2), 16, 2)
    p4 = c3(net, net.conv(p3, 24, 3, 2), 24, 2)
    p5 = sppf(net, c3(net, net.conv(p4, 32, 3, 2), 32, 2))
    decoded = []
    for level in pyramid(net, [p3, p4, p5], lambda x, out: c3(net, x, out, 1, False)):
        side = net.width(level, 2)
        y = net.conv(level, 2 * 8, 1, norm=None, act=None)
        y = net.transpose(net.reshape(y, -1, 2, 8, side, side), 0, 1, 3, 4, 2)
        y = net.op("Sigmoid", y)
        place, size, score = net.split(y, 2, 2, 4, axis=4)
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(1, 1, side, side, 2)
        place = net.op("Mul", net.op("Add", place, net.const(grid.astype(np.float32))), net.number(32 / side))
        size = net.op("Mul", net.op("Pow", net.op("Mul", size, net.number(2)), net.number(2)), net.number(8))
        decoded.append(net.reshape(net.concat(place, size, score, axis=4), -1, 2 * side * side, 8))
    net.output(net.concat(*decoded, axis=1))


@skeleton(norm="fold", act="leaky")
def yolo_v3(net: Net):
    """Darknet's residual blocks, and heads of five convolutions with a branch."""
    x = net.conv(net.images(3, 32), 12)
    levels = []
    for out in (16, 24, 32):
        x = net.conv(x, out, 3, 2)
        for _ in range(2):
            x = net.add(x, net.conv(net.conv(x, out // 2, 1), out))
        levels.append(x)
    y = levels[2]
    for number, level in ((2, None), (1, levels[1]), (0, levels[0])):
        if level is not None:
            y = net.concat(net.resize(net.conv(y, 8, 1)), level)
        for _ in range(2):
            y = net.conv(net.conv(y, 12, 1), 20)
        y = net.conv(y, 12, 1)
        net.output(net.conv(net.conv(y, 20), 9, 1, norm=None, act=None))


@skeleton(norm="fold", act="silu")
def yolo_v7(net: Net):
    """ELAN: chains whose every second output is joined."""

    def elan(x, inner, out):
        parts = [net.conv(x, inner, 1), net.conv(x, inner, 1)]
        for _ in range(2):
            parts.append(net.conv(net.conv(parts[-1], inner), inner))
        return net.conv(net.concat(*reversed(parts)), out, 1)

    def down(x):
        half = net.width(x) // 2
        left = net.conv(net.maxpool(x, 2, pad=0), half, 1)
        return net.concat(net.conv(net.conv(x, half, 1), half, 3, 2), left)

    x = net.conv(net.conv(net.images(3, 32), 12), 16, 3, 2)
    p3 = elan(x, 10, 24)
    p4 = elan(down(p3), 12, 32)
    p5 = elan(down(p4), 12, 40)
    for level in pyramid(net, [p3, p4, p5], lambda x, out: elan(x, 10, out)):
        net.output(net.conv(level, 12, 1, norm=None, act=None))


def distributed(net: Net, levels: list[str], side_of: int) -> None:
    """Heads of YOLO v8: distances to the four sides as means of a distribution, classes apart, decoded."""
    flat, anchors, strides = [], [], []
    for level in levels:
        side = net.width(level, 2)
        boxes = net.conv(net.conv(net.conv(level, 16), 16), 4 * 8, 1, norm=None, act=None)
        classes = net.conv(net.conv(net.conv(level, 12), 12), 5, 1, norm=None, act=None)
        flat.append(net.reshape(net.concat(boxes, classes), 0, 37, -1))
        at = (np.arange(side) + 0.5).astype(np.float32)
        anchors.append(np.stack([np.tile(at, side), np.repeat(at, side)]))
        strides.append(np.full((1, side * side), side_of / side, np.float32))
    boxes, classes = net.split(net.concat(*flat, axis=2), 32, 5)
    places = net.shape(boxes)[2]
    y = net.op("Softmax", net.transpose(net.reshape(boxes, 0, 4, 8, places), 0, 2, 1, 3), axis=1)
    steps = net.const(np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1))
    near, far = net.split(net.reshape(net.op("Conv", y, steps), 0, 4, places), 2, 2)
    grid = net.const(np.concatenate(anchors, 1)[None])
    low, high = net.op("Sub", grid, near), net.op("Add", grid, far)
    middle = net.op("Div", net.op("Add", low, high), net.number(2))
    boxes = net.op("Mul", net.concat(middle, net.op("Sub", high, low)), net.const(np.concatenate(strides, 1)))
    net.output(net.concat(boxes, net.op("Sigmoid", classes)))


@skeleton(norm="fold", act="silu")
def yolo_v8(net: Net):
    x = net.conv(net.images(3, 32), 12, 3, 2)
    p3 = c2f(net, net.conv(x, 16, 3, 2), 16, 2)
    p4 = c2f(net, net.conv(p3, 24, 3, 2), 24, 2)
    p5 = sppf(net, c2f(net, net.conv(p4, 32, 3, 2), 32, 2))
    distributed(net, pyramid(net, [p3, p4, p5], lambda x, out: c2f(net, x, out, 1, False)), 32)


@skeleton(norm="fold", act="silu")
def yolo_v10(net: Net):
    """Separable downsampling, large depthwise kernels, attention over positions in one half of the channels."""

    def down(x, out):
        return net.depthwise(net.conv(x, out, 1), stride=2, act=None)

    def inverted(x):
        wide = net.width(x)
        y = net.conv(net.depthwise(x), 2 * wide, 1)
        y = net.conv(net.depthwise(y, 7), wide, 1)
        return net.add(x, net.depthwise(y))

    def attention(x):
        wide, side = net.width(x), net.width(x, 2)
        heads, inner = 2, wide // 2
        qkv = net.reshape(net.conv(x, 2 * wide, 1, act=None), 0, heads, inner * 2, side * side)
        q, k, v = net.split(qkv, inner // 2, inner // 2, inner, axis=2)
        scores = net.op("MatMul", net.transpose(q, 0, 1, 3, 2), k)
        scores = net.op("Softmax", net.op("Mul", scores, net.number((inner // 2) ** -0.5)), axis=-1)
        y = net.op("MatMul", v, net.transpose(scores, 0, 1, 3, 2))
        place = net.depthwise(net.reshape(v, 0, wide, side, side), act=None)
        return net.conv(net.add(net.reshape(y, 0, wide, side, side), place), wide, 1, act=None)

    x = net.conv(net.images(3, 32), 12, 3, 2)
    p3 = c2f(net, net.conv(x, 16, 3, 2), 16, 2)
    p4 = c2f(net, down(p3, 24), 24, 2)
    p5 = down(p4, 32)
    for _ in range(2):
        p5 = inverted(p5)
    keep, y = net.split(net.conv(p5, 32, 1), 16, 16)
    for _ in range(2):
        y = net.add(y, attention(y))
        y = net.add(y, net.conv(net.conv(y, 32, 1), 16, 1, act=None))
    p5 = net.conv(net.concat(keep, y), 32, 1)
    for level in pyramid(net, [p3, p4, p5], lambda x, out: c2f(net, x, out, 1, False)):
        net.output(net.conv(net.conv(net.depthwise(level), 16, 1), 9, 1, norm=None, act=None))


def backbone(net: Net, size: int = 32) -> list[str]:
    x = net.conv(net.images(3, size), 12, 3, 2)
    levels = []
    for out in (16, 24, 32):
        x = net.conv(x, out, 3, 2)
        for _ in range(2):
            x = net.op("Relu", net.add(x, net.conv(net.conv(x, out), out, act=None)))
        levels.append(x)
    return levels


def feature_pyramid(net: Net, levels: list[str], width: int, how: str = "scale") -> list[str]:
    sides = [net.conv(level, width, 1, norm=None, act=None) for level in levels]
    out = [sides[-1]]
    for side in reversed(sides[:-1]):
        above = net.resize(out[0]) if how == "scale" else net.resize_like(out[0], side, "nearest")
        out.insert(0, net.add(side, above))
    return [net.conv(level, width, norm=None, act=None) for level in out]


def shared_convs(net: Net, level: str, widths: list[int]) -> list[tuple[str, str]]:
    made, ci = [], net.width(level)
    for width in widths:
        made.append((net.const(net.weight(width, ci, 3, 3, fan_in=ci * 9)), net.const(net.normal(width, scale=0.3))))
        ci = width
    return made


def apply(net: Net, x: str, convs: list[tuple[str, str]]) -> str:
    for number, (weight, bias) in enumerate(convs):
        x = net.op("Conv", x, weight, bias, pads=[1] * 4, kernel_shape=[3, 3])
        x = net.op("Relu", x) if number + 1 < len(convs) else x
    return x


@skeleton(norm="fold")
def retinanet(net: Net):
    """A pyramid of features, and one head whose weights all levels share."""
    levels = feature_pyramid(net, backbone(net), 24, "like")
    classes, boxes = (shared_convs(net, levels[0], [24, 24, last]) for last in (6, 8))
    for level in levels:
        for convs, entries in ((classes, 3), (boxes, 4)):
            y = net.op("Sigmoid", apply(net, level, convs)) if entries == 3 else apply(net, level, convs)
            y = net.transpose(y, 0, 2, 3, 1)
            net.output(net.reshape(y, 0, -1, entries), shape=["N", 2 * net.width(level, 2) ** 2, entries])


@skeleton(norm="fold")
def fcos(net: Net):
    """Towers that all levels share, with GroupNorm and a factor for each level."""
    levels = feature_pyramid(net, backbone(net), 24)
    towers = []
    for _ in range(2):
        weights = [net.const(net.weight(24, 24, 3, 3, fan_in=216)) for _ in range(2)]
        affine = [[net.const(a.reshape(24, 1, 1)) for a in net.affine(24)] for _ in range(2)]
        towers.append(list(zip(weights, affine)))
    lasts = [net.const(net.weight(n, 24, 3, 3, fan_in=216)) for n in (5, 4)]
    ones, zeros = net.const(np.ones(4, np.float32)), net.const(np.zeros(4, np.float32))
    for number, level in enumerate(levels):
        for tower, last in zip(towers, lasts):
            y = level
            for weight, (gamma, beta) in tower:
                y = net.op("Conv", y, weight, pads=[1] * 4)
                normed = net.op("InstanceNormalization", net.reshape(y, 0, 4, -1), ones, zeros)
                normed = net.op("Reshape", normed, net.op("Shape", y))
                y = net.op("Relu", net.op("Add", net.op("Mul", normed, gamma), beta))
            y = net.op("Conv", y, last, pads=[1] * 4)
            if last is lasts[1]:
                y = net.op("Relu", net.op("Mul", y, net.number(1 + number * 0.2)))
            net.output(y)


@skeleton(norm="fold", act="silu")
def pan(net: Net):
    """A path aggregation network without CSP, on a backbone of residual blocks."""
    levels = [net.conv(level, 20, 1) for level in backbone(net)]
    for level in pyramid(net, levels, lambda x, out: net.conv(net.conv(x, out, 1), out)):
        net.output(net.conv(level, 9, 1, norm=None, act=None))


@skeleton(norm="fold", act="silu")
def bifpn(net: Net):
    """EfficientDet: levels that are added with learnt positive factors, twice in a row."""

    def fuse(*parts):
        factors = net.random.uniform(0.3, 1, len(parts))
        scaled = [net.op("Mul", part, net.number(f / factors.sum())) for part, f in zip(parts, factors)]
        y = net.activate(net.add(*scaled), "silu")
        return net.conv(net.depthwise(y, norm=None, act=None), 20, 1, act=None)

    p3, p4, p5 = (net.conv(level, 20, 1, act=None) for level in backbone(net))
    for _ in range(2):
        m4 = fuse(p4, net.resize(p5))
        p3 = fuse(p3, net.resize(m4))
        p4 = fuse(p4, m4, net.maxpool(p3))
        p5 = fuse(p5, net.maxpool(p4))
    for level in (p3, p4, p5):
        net.output(net.conv(net.depthwise(level, norm=None, act=None), 8, 1, norm=None, act=None))


@skeleton(norm=None)
def ssd(net: Net):
    """Heads of several levels, put in one list; one level's features are scaled to a length of one."""
    x = net.images(3, 32)
    for width in (12, 20):
        x = net.maxpool(net.conv(net.conv(x, width), width), 2, pad=0)
    first = net.op("Mul", net.op("LpNormalization", x, axis=1, p=2), net.const(net.random.uniform(5, 9, (20, 1, 1)).astype(np.float32)))
    levels = [first]
    for width in (24, 32):
        x = net.conv(net.conv(x, 16, 1), width, 3, 2)
        levels.append(x)
    boxes, scores = [], []
    for level in levels:
        for out, parts in ((4, boxes), (5, scores)):
            y = net.transpose(net.conv(level, 2 * out, act=None), 0, 2, 3, 1)
            parts.append(net.traced_reshape(y, ("axis", 0), -1, out))
    count = 2 * (64 + 16 + 4)
    net.output(net.concat(*boxes, axis=1), shape=["N", count, 4])
    net.output(net.op("Softmax", net.concat(*scores, axis=1), axis=2), shape=["N", count, 5])


@skeleton(norm="fold")
def centernet(net: Net):
    """Transposed convolutions up to heat maps, whose peaks are kept by a pool and a comparison."""
    x = backbone(net)[-1]
    for width in (24, 16):
        x = net.conv(net.conv(x, width), width, 4, 2, transposed=True)
    heat = net.op("Sigmoid", net.conv(net.conv(x, 16, norm=None), 4, 1, norm=None, act=None))
    peak = net.op("Equal", net.maxpool(heat, 3, 1), heat)
    net.output(net.op("Mul", heat, net.op("Cast", peak, to=1)))
    net.output(net.conv(net.conv(x, 16, norm=None), 2, 1, norm=None, act=None))


@skeleton(norm="fold")
def mask_rcnn_heads(net: Net):
    """Regions cut out of the features of one level, and two heads on them."""
    x = backbone(net)[1]
    x = net.conv(net.conv(x, 20), 20)
    size = net.width(x, 2)
    boxes = np.array([[0, 0, size - 1, size - 1], [0, 0, size / 2, size / 2], [1, 1, size - 1, size - 1]], np.float32)
    count = net.traced_size(x, 0)
    at = net.op("Range", net.const(np.int64(0)), net.squeeze(count, 0), net.const(np.int64(1)))
    parts = []
    for box in boxes:
        regions = net.op("Expand", net.const(box[None]), net.op("Concat", count, net.ints(4), axis=0))
        parts.append(net.op("RoiAlign", x, regions, at, output_height=4, output_width=4, sampling_ratio=2, mode="avg"))
    rois = net.concat(*parts, axis=0)
    y = net.linear(net.linear(net.flatten(rois), 40, "relu"), 32, "relu")
    net.output(net.linear(y, 6), shape=["regions", 6])
    masks = net.conv(net.conv(net.conv(rois, 16), 16), 16, 2, 2, transposed=True)
    net.output(net.conv(masks, 3, 1, norm=None, act=None), shape=["regions", 3, 8, 8])


@skeleton(norm="fold", opset=19)
def deformable(net: Net):
    """Convolutions whose places are told by others, in residual blocks."""
    x = net.conv(net.images(3, 20), 16)
    for _ in range(3):
        y = net.conv(x, 20)
        offsets = net.op("Conv", y, net.const(net.weight(18, 20, 3, 3, fan_in=180, gain=0.7)), pads=[1] * 4)
        kernel, bias = net.const(net.weight(20, 20, 3, 3, fan_in=180)), net.const(net.normal(20, scale=0.3))
        y = net.op("Relu", net.op("DeformConv", y, kernel, offsets, bias, pads=[1] * 4, kernel_shape=[3, 3]))
        x = net.op("Relu", net.add(x, net.conv(y, 16, act=None)))
    net.classify(x)
