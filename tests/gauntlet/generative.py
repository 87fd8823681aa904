"""Networks that make images."""

import numpy as np
from net import Net, skeleton


@skeleton()
def dncnn(net: Net):
    """A plain chain that tells the noise, which is subtracted from the input."""
    x = net.images(1, 20)
    y = net.conv(x, 16, norm=None)
    for _ in range(4):
        y = net.conv(y, 16)
    net.output(net.op("Sub", x, net.conv(y, 1, norm=None, act=None)))


@skeleton(norm=None)
def edsr(net: Net):
    """Residual blocks without norms, then pixels out of channels, twice."""
    x = net.conv(net.images(3, 12), 16, act=None)
    y = x
    for _ in range(4):
        z = net.conv(net.conv(y, 16), 16, act=None)
        y = net.add(y, net.op("Mul", z, net.number(0.4)))
    x = net.add(x, net.conv(y, 16, act=None))
    for _ in range(2):
        x = net.op("DepthToSpace", net.conv(x, 64, act=None), blocksize=2, mode="CRD")
    net.output(net.conv(x, 3, act=None))


@skeleton(norm=None)
def espcn_reshaped(net: Net):
    """PixelShuffle as Reshape, Transpose and Reshape."""
    x = net.conv(net.conv(net.conv(net.images(1, 14), 24, 5), 20), 16)
    side = 14
    for out in (12, 1):
        y = net.reshape(net.conv(x, out * 4, act=None), -1, out, 2, 2, side, side)
        side *= 2
        x = net.reshape(net.transpose(y, 0, 1, 4, 2, 5, 3), -1, out, side, side)
        x = net.conv(net.activate(x, "tanh"), out * 2) if out > 1 else x
    net.output(x)


@skeleton(norm=None, act="leaky")
def esrgan(net: Net):
    """Residual blocks in residual blocks, with dense connections inside."""
    x = net.conv(net.images(3, 12), 16, act=None)
    trunk = x
    for _ in range(2):
        before = trunk
        for _ in range(2):
            parts = [trunk]
            for _ in range(3):
                parts.append(net.conv(net.concat(*parts) if len(parts) > 1 else parts[0], 8))
            y = net.conv(net.concat(*parts), 16, act=None)
            trunk = net.add(trunk, net.op("Mul", y, net.number(0.2)))
        trunk = net.add(before, net.op("Mul", trunk, net.number(0.2)))
    x = net.add(x, net.conv(trunk, 16, act=None))
    x = net.conv(net.resize(x), 16)
    net.output(net.conv(net.conv(x, 16), 3, act=None))


@skeleton(norm=None, act="leaky")
def stylegan(net: Net):
    """Layers whose inputs are scaled by a style and whose outputs are scaled back, with noise of each layer."""
    z = net.vectors(16, "z")
    norm = net.op("Sqrt", net.op("Add", net.reduce("ReduceMean", net.op("Mul", z, z), 1), net.number(1e-8)))
    w = net.op("Div", z, norm)
    for _ in range(3):
        w = net.linear(w, 24, "leaky")
    count = net.traced_size(z, 0)
    start = net.op("Expand", net.const(net.normal(1, 24, 4, 4)), net.op("Concat", count, net.ints(24, 4, 4), axis=0))
    x, image = start, None
    for out in (24, 24, 16, 16):
        if out != net.width(x) or net.width(x, 2) == 4 and image:
            x = net.resize(x)
            image = net.resize(image)
        ci = net.width(x)
        style = net.linear(w, ci)
        kernel = net.weight(out, ci, 3, 3, fan_in=ci * 9)
        y = net.op("Mul", x, net.unsqueeze(style, 2, 3))
        y = net.op("Conv", y, net.const(kernel), pads=[1] * 4)
        power = net.const((kernel**2).sum((2, 3)).T.copy())
        demod = net.op("MatMul", net.op("Mul", style, style), power)
        demod = net.op("Reciprocal", net.op("Sqrt", net.op("Add", demod, net.number(1e-4))))
        y = net.op("Mul", y, net.unsqueeze(demod, 2, 3))
        side = net.width(y, 2)
        y = net.op("Add", y, net.const(net.normal(1, 1, side, side, scale=0.1)))
        x = net.activate(net.op("Add", y, net.const(net.normal(1, out, 1, 1, scale=0.3))), "leaky")
        colour = net.op("Mul", x, net.unsqueeze(net.linear(w, out), 2, 3))
        colour = net.conv(colour, 3, 1, act=None)
        image = colour if image is None else net.add(image, colour)
    net.output(image)


@skeleton(norm=None, batch=1, held="The kernels are computed from the style, so that only the mapping network has constant weights.")
def stylegan_modulated_weights(net: Net):
    """The kernels themselves are scaled by the style, which needs one sample at a time."""
    x, z = net.images(3, 12), net.vectors(12, "z")
    w = net.linear(net.linear(z, 24, "leaky"), 24, "leaky")
    x = net.conv(x, 12)
    for out in (12, 12, 16):
        ci = net.width(x)
        style = net.reshape(net.linear(w, ci), 1, 1, ci, 1, 1)
        kernel = net.op("Mul", net.const(net.weight(out, ci, 3, 3, fan_in=ci * 9).reshape(1, out, ci, 3, 3)), style)
        square = net.reduce("ReduceSum", net.op("Mul", kernel, kernel), 2, 3, 4)
        kernel = net.op("Div", kernel, net.op("Sqrt", net.op("Add", square, net.number(1e-4))))
        x = net.activate(net.op("Conv", x, net.reshape(kernel, out, ci, 3, 3), pads=[1] * 4), "leaky")
    net.output(net.conv(x, 3, 1, act=None))


@skeleton(norm="in")
def style_transfer(net: Net):
    """Reflected borders, instance norms, residual blocks, nearest resizing."""

    def reflected(x, out, k, stride=1, act="relu"):
        edge = k // 2
        padded = net.pad(x, [0, 0, edge, edge, 0, 0, edge, edge], "reflect")
        return net.conv(padded, out, k, stride, pad=0, act=act)

    x = reflected(net.images(3, 24), 12, 9)
    x = reflected(reflected(x, 20, 3, 2), 28, 3, 2)
    for _ in range(3):
        x = net.add(x, reflected(reflected(x, 28, 3), 28, 3, act=None))
    for out in (20, 12):
        x = reflected(net.resize(x), out, 3)
    edge = [0, 0, 4, 4, 0, 0, 4, 4]
    net.output(net.conv(net.pad(x, edge, "reflect"), 3, 9, norm=None, act="tanh", pad=0))


@skeleton(norm=None)
def adain(net: Net):
    """Features get the mean and deviation of another image's features."""
    content, style = net.images(3, 20, "content"), net.images(3, 20, "style")
    kernels = [net.weight(o, i, 3, 3, fan_in=i * 9) for i, o in ((3, 12), (12, 20), (20, 24))]
    kernels = [(net.const(k), net.const(net.normal(len(k), scale=0.3))) for k in kernels]

    def encode(x):
        for number, (kernel, bias) in enumerate(kernels):
            x = net.op("Relu", net.op("Conv", x, kernel, bias, pads=[1] * 4, strides=[2, 2] if number == 1 else [1, 1]))
        return x

    def moments(x):
        mean = net.reduce("ReduceMean", x, 2, 3)
        centred = net.op("Sub", x, mean)
        var = net.reduce("ReduceMean", net.op("Mul", centred, centred), 2, 3)
        return mean, centred, net.op("Sqrt", net.op("Add", var, net.number(1e-3)))

    _, centred, deviation = moments(encode(content))
    mean, _, other = moments(encode(style))
    x = net.op("Add", net.op("Mul", net.op("Div", centred, deviation), other), mean)
    x = net.conv(net.resize(net.conv(x, 20)), 16)
    net.output(net.conv(net.conv(x, 12), 3, act=None))


@skeleton()
def autoencoder_conv(net: Net):
    x = net.images(3, 24)
    for width in (16, 24, 32):
        x = net.conv(net.conv(x, width, 3, 2), width)
    x = net.linear(net.flatten(x), 16)
    x = net.reshape(net.linear(x, 32 * 9, "relu"), -1, 32, 3, 3)
    for width in (24, 16, 12):
        x = net.conv(net.conv(x, width, 4, 2, transposed=True), width)
    net.output(net.conv(x, 3, norm=None, act="sigmoid"))


@skeleton(act="leaky")
def vae(net: Net):
    """Mean and log-variance as outputs; a sample is drawn with noise that is an input."""
    x = net.images(1, 16)
    noise = net.input("noise", net.normal(net.samples, 12))
    for width in (16, 24):
        x = net.conv(net.conv(x, width, 3, 2), width)
    x = net.linear(net.flatten(x), 40, "relu")
    mean, log = net.linear(x, 12), net.linear(x, 12, gain=0.5)
    z = net.add(mean, net.op("Mul", noise, net.op("Exp", net.op("Mul", log, net.number(0.5)))))
    x = net.reshape(net.linear(net.linear(z, 40, "relu"), 24 * 16, "relu"), -1, 24, 4, 4)
    for width in (16, 12):
        x = net.conv(net.conv(x, width, 4, 2, transposed=True), width)
    net.output(net.conv(x, 1, norm=None, act="sigmoid"))
    net.output(mean)
    net.output(log)


@skeleton()
def dcgan(net: Net):
    x = net.reshape(net.vectors(24, "z"), 0, 24, 1, 1)
    x = net.activate(net.batchnorm(net.op("ConvTranspose", x, net.const(net.weight(24, 32, 4, 4, fan_in=24)))), "relu")
    for width in (24, 20, 16):
        x = net.conv(x, width, 4, 2, transposed=True)
        x = net.conv(x, width)
    net.output(net.conv(x, 3, norm=None, act="tanh"))


@skeleton(norm=None, act="silu", opset=20)
def diffusion_unet(net: Net):
    """Group norms, a time that scales and shifts every block, attention at the lowest resolution, skips that are joined."""
    x = net.images(3, 16)
    time = net.input("time", net.random.uniform(0, 50, net.samples).astype(np.float32))
    speeds = np.exp(-np.arange(8) / 8 * 4).astype(np.float32)
    angle = net.op("Mul", net.unsqueeze(time, 1), net.const(speeds[None]))
    t = net.concat(net.op("Sin", angle), net.op("Cos", angle))
    t = net.activate(net.linear(net.linear(t, 32, "silu"), 32), "silu")

    def block(x, out):
        y = net.conv(net.activate(net.groupnorm(x, 4), "silu"), out, act=None)
        both = net.unsqueeze(net.linear(t, 2 * out), 2, 3)
        scale, shift = net.split(both, out, out)
        y = net.add(net.op("Mul", net.groupnorm(y, 4), net.add(scale, net.number(1))), shift)
        y = net.conv(net.activate(y, "silu"), out, act=None)
        return net.add(y, x if net.width(x) == out else net.conv(x, out, 1, act=None))

    def attend(x):
        wide, side = net.width(x), net.width(x, 2)
        y = net.reshape(net.conv(net.groupnorm(x, 4), 3 * wide, 1, act=None), 0, 3, 2, wide // 2, side * side)
        q, k, v = (net.squeeze(part, 1) for part in net.split(y, 1, 1, 1))
        scores = net.op("Mul", net.op("MatMul", net.transpose(q, 0, 1, 3, 2), k), net.number((wide // 2) ** -0.5))
        y = net.op("MatMul", v, net.transpose(net.op("Softmax", scores, axis=-1), 0, 1, 3, 2))
        return net.add(x, net.conv(net.reshape(y, 0, wide, side, side), wide, 1, act=None))

    x = net.conv(x, 16, act=None)
    skips = [x]
    for number, width in enumerate((16, 24)):
        for _ in range(2):
            x = block(x, width)
            skips.append(x)
        if number == 0:
            x = net.conv(x, width, 3, 2, act=None)
            skips.append(x)
    x = block(attend(block(x, 24)), 24)
    for number, width in enumerate((24, 16)):
        for _ in range(3):
            x = block(net.concat(x, skips.pop()), width)
        if number == 0:
            x = net.conv(net.resize(x), width, act=None)
    net.output(net.conv(net.activate(net.groupnorm(x, 4), "silu"), 3, act=None))


@skeleton(norm=None)
def nerf(net: Net):
    """Sines of coordinates, a long MLP into whose middle the input comes again, and a second input near its end."""
    place, view = net.vectors(3, "place"), net.vectors(3, "view")

    def encode(x, count):
        parts = [x]
        for number in range(count):
            angle = net.op("Mul", x, net.number(2.0**number * 0.7))
            parts += [net.op("Sin", angle), net.op("Cos", angle)]
        return net.concat(*parts)

    start = x = encode(place, 3)
    for number in range(6):
        x = net.concat(start, x) if number == 3 else x
        x = net.linear(x, 40, "relu", gain=1.4)
    density = net.activate(net.linear(x, 1), "softplus")
    y = net.concat(net.linear(x, 32), encode(view, 2))
    y = net.linear(net.linear(y, 24, "relu"), 24, "relu")
    net.output(net.concat(net.op("Sigmoid", net.linear(y, 3)), density))


@skeleton(norm=None)
def film(net: Net):
    """Scales and shifts of each block's channels come from a second input."""
    x, words = net.images(3, 16), net.vectors(16, "words")
    w = net.linear(net.linear(words, 32, "relu"), 32, "relu")
    x = net.conv(x, 20)
    for _ in range(3):
        y = net.conv(x, 20)
        z = net.batchnorm(net.conv(y, 20, act=None))
        scale, shift = (net.unsqueeze(net.linear(w, 20), 2, 3) for _ in range(2))
        z = net.op("Relu", net.add(net.op("Mul", z, scale), shift))
        x = net.add(y, z)
    net.classify(x)
