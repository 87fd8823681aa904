"""Networks that join their layers' outputs, and plain chains."""

from net import Net, skeleton


def dense(net: Net, widths: list[int], grow: int, layers: int) -> str:
    x = net.conv(net.images(3, 24), widths[0], norm=None, act=None)
    for number, _ in enumerate(widths):
        for _ in range(layers):
            y = net.conv(net.op("Relu", net.batchnorm(x)), grow * 2, 1)
            x = net.concat(x, net.conv(y, grow, norm=None, act=None))
        if number + 1 < len(widths):
            x = net.conv(net.op("Relu", net.batchnorm(x)), net.width(x) // 2, 1, norm=None, act=None)
            x = net.avgpool(x)
    return net.op("Relu", net.batchnorm(x))


@skeleton()
def densenet(net: Net):
    net.classify(dense(net, [16, 0], 12, 3))


@skeleton()
def densenet_joined_anew(net: Net):
    """Each layer joins all features before it itself, as torchvision's export does."""
    x = net.conv(net.images(3, 20), 16)
    for number in range(2):
        features = [x]
        for _ in range(3):
            y = net.concat(*features) if len(features) > 1 else features[0]
            y = net.conv(net.op("Relu", net.batchnorm(y)), 20, 1)
            features.append(net.conv(y, 10, norm=None, act=None))
        x = net.op("Relu", net.batchnorm(net.concat(*features)))
        if number == 0:
            x = net.avgpool(net.conv(x, 24, 1, norm=None, act=None))
    net.classify(x)


def inception(net: Net, x: str, a: int, b: int, c: int, d: int, factorised: bool) -> str:
    pooled = net.op("AveragePool" if factorised else "MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    if factorised:
        second = net.conv(net.conv(net.conv(x, b // 2, 1), b, (1, 5)), b, (5, 1))
        third = net.conv(x, c // 2, 1)
        for kernel in ((5, 1), (1, 5)):
            third = net.conv(third, c, kernel)
        split = net.conv(x, c // 2, 1)
        third = net.concat(third, net.conv(split, c // 2, (1, 3)), net.conv(split, c // 2, (3, 1)))
    else:
        second = net.conv(net.conv(x, b // 2, 1), b)
        third = net.conv(net.conv(x, c // 2, 1), c, 5)
    return net.concat(net.conv(x, a, 1), second, third, net.conv(pooled, d, 1))


@skeleton(norm="fold")
def inception_v1(net: Net):
    x = net.maxpool(net.conv(net.images(3, 32), 16, 5, 2))
    for a, b, c, d in ((8, 16, 8, 8), (12, 16, 8, 8), (12, 20, 12, 8)):
        x = inception(net, x, a, b, c, d, False)
    net.classify(x)


@skeleton()
def inception_v3(net: Net):
    """Kernels factorised into rows and columns, and grids reduced by three branches at once."""
    x = net.conv(net.conv(net.images(3, 28), 12, stride=2), 16)
    for _ in range(2):
        x = inception(net, x, 8, 12, 8, 8, True)
    x = net.concat(net.conv(x, 16, stride=2), net.conv(net.conv(net.conv(x, 8, 1), 12), 16, stride=2), net.maxpool(x))
    for _ in range(2):
        x = inception(net, x, 12, 12, 8, 8, True)
    net.classify(x)


@skeleton(norm="fold")
def inception_resnet(net: Net):
    x = net.conv(net.images(3, 24), 24, stride=2)
    for _ in range(3):
        branches = [net.conv(x, 8, 1), net.conv(net.conv(x, 8, 1), 12), net.conv(net.conv(net.conv(x, 8, 1), 10), 12)]
        y = net.conv(net.concat(*branches), 24, 1, norm=None, act=None)
        x = net.op("Relu", net.add(x, net.op("Mul", y, net.number(0.3))))
    net.classify(x)


@skeleton(norm=None)
def squeezenet(net: Net):
    x = net.maxpool(net.conv(net.images(3, 32), 16, stride=2))
    for squeeze, expand in ((8, 16), (8, 16), (12, 24), (12, 24)):
        y = net.conv(x, squeeze, 1)
        x = net.concat(net.conv(y, expand, 1), net.conv(y, expand))
        if expand == 16 and net.width(x, 2) > 6:
            x = net.maxpool(x)
    x = net.conv(net.op("Dropout", x), 10, 1)
    net.output(net.flatten(net.gap(x)))


@skeleton()
def vgg_bn(net: Net):
    x = net.images(3, 24)
    for width in (16, 24, 32):
        x = net.maxpool(net.conv(net.conv(x, width), width), 2, pad=0)
    x = net.flatten(x)
    for _ in range(2):
        x = net.op("Dropout", net.linear(x, 48, "relu", gain=1.4))
    net.output(net.linear(x, 10))


@skeleton(norm="fold", stored="constant")
def vgg_constants(net: Net):
    """The weights are Constant nodes."""
    x = net.images(3, 20)
    for width in (12, 20):
        x = net.maxpool(net.conv(net.conv(x, width), width), 2, pad=0)
    x = net.traced_reshape(x, ("axis", 0), -1)
    net.output(net.linear(net.linear(x, 40, "relu", gain=1.4), 10))


@skeleton(norm=None)
def alexnet(net: Net):
    """Two groups, and responses that are normalised over neighbouring channels."""
    x = net.conv(net.images(3, 32), 24, 5, 2)
    x = net.maxpool(net.op("LRN", x, size=5, alpha=1e-1, beta=0.75, bias=1.0), 3, pad=0)
    x = net.maxpool(net.conv(x, 32, groups=2), 3, pad=0)
    x = net.conv(net.conv(net.conv(x, 36), 36, groups=2), 24, groups=2)
    net.output(net.linear(net.linear(net.linear(net.flatten(x), 48, "relu"), 40, "relu"), 10))


@skeleton()
def repvgg_branches(net: Net):
    """RepVGG as trained: a 3 x 3, a 1 x 1 and an identity, each with its norm."""
    x = net.images(3, 24)
    for width, stride in ((16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1)):
        parts = [net.conv(x, width, 3, stride, act=None), net.conv(x, width, 1, stride, act=None)]
        if stride == 1:
            parts.append(net.batchnorm(x))
        x = net.op("Relu", net.add(*parts))
    net.classify(x)


@skeleton(norm="fold")
def repvgg_fused(net: Net):
    x = net.images(3, 24)
    for width, stride in ((16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1)):
        x = net.conv(x, width, 3, stride)
    net.classify(x)


@skeleton()
def dla(net: Net):
    """Deep layer aggregation: a tree of residual blocks with roots that join them."""

    def block(x, out, stride=1):
        y = net.conv(net.conv(x, out, stride=stride), out, act=None)
        short = net.maxpool(x, 2, pad=0) if stride > 1 else x
        short = net.conv(short, out, 1, act=None) if net.width(short) != out else short
        return net.op("Relu", net.add(y, short))

    x = net.conv(net.images(3, 24), 12)
    for out in (20, 32):
        bottom = net.maxpool(x, 2, pad=0)
        left = block(x, out, 2)
        right = block(left, out)
        first = net.conv(net.concat(right, left), out, 1)
        third = block(first, out)
        fourth = block(third, out)
        x = net.conv(net.concat(fourth, third, bottom, first), out, 1)
    net.classify(x)


@skeleton(norm="fold")
def nasnet_cells(net: Net):
    """Cells with two inputs: sums of separable convolutions and pools, joined."""

    def separable(x, out, k):
        return net.conv(net.depthwise(net.op("Relu", x), k, norm=None, act=None), out, 1, act=None)

    before = x = net.conv(net.images(3, 20), 16, stride=2, act=None)
    for width in (12, 12, 16):
        left, right = (net.conv(net.op("Relu", value), width, 1, act=None) for value in (before, x))
        pooled = net.op("AveragePool", right, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
        parts = [
            net.add(separable(right, width, 3), left),
            net.add(separable(left, width, 5), separable(right, width, 3)),
            net.add(pooled, left),
            right,
        ]
        before, x = x, net.concat(*parts)
    net.classify(net.op("Relu", x))
