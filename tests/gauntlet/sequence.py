"""Networks of series, sound, text lines."""

import numpy as np
from net import Net, skeleton


@skeleton()
def resnet_1d(net: Net):
    x = net.maxpool(net.conv(net.series(3, 64), 16, 7, 2))
    for out, stride in ((16, 1), (28, 2)):
        for step in (stride, 1, 1):
            y = net.conv(net.conv(x, out, 5, step), out, 5, act=None)
            if step > 1 or net.width(x) != out:
                x = net.conv(x, out, 1, step, act=None)
            x = net.op("Relu", net.add(x, y))
    net.classify(x)


@skeleton(norm=None)
def tcn(net: Net):
    """Causal dilated convolutions: padded on both sides, then cut at the end."""
    x = net.series(4, 32)
    for out, dilation in ((16, 1), (16, 2), (24, 4), (24, 8)):
        y = x
        for _ in range(2):
            y = net.pad(y, [0, 0, 2 * dilation, 0, 0, 2 * dilation])
            y = net.conv(y, out, dilation=dilation, pad=0, act=None)
            y = net.op("Relu", net.slice(y, 2, 0, -2 * dilation))
        short = x if net.width(x) == out else net.conv(x, out, 1, act=None)
        x = net.op("Relu", net.add(short, y))
    last = net.squeeze(net.slice(x, 2, -1, 2**31), 2)
    net.output(net.linear(last, 5))


@skeleton(norm=None)
def wavenet(net: Net):
    """Products of a tanh and a sigmoid half, with a residual and a skip stream."""
    x = net.conv(net.series(1, 48), 16, 1, act=None)
    skip = None
    for dilation in (1, 2, 4, 1, 2, 4):
        y = net.pad(x, [0, 0, dilation, 0, 0, 0])
        y = net.conv(y, 32, 2, dilation=dilation, pad=0, act=None)
        left, right = net.split(y, 16, 16)
        y = net.op("Mul", net.op("Tanh", left), net.op("Sigmoid", right))
        out = net.conv(y, 24, 1, act=None)
        skip = out if skip is None else net.add(skip, out)
        x = net.add(x, net.conv(y, 16, 1, act=None))
    net.output(net.conv(net.conv(net.op("Relu", skip), 24, 1), 6, 1, act=None))


@skeleton(norm=None)
def wavenet_two_gates(net: Net):
    """Gates from convolutions of their own, and a condition that is added to each."""
    x = net.conv(net.series(2, 32), 16, 1, act=None)
    wish = net.unsqueeze(net.linear(net.vectors(6, "speaker"), 12, "relu"), 2)
    for dilation in (1, 2, 4):
        both = [net.add(net.conv(x, 20, dilation=dilation, act=None), net.conv(wish, 20, 1, act=None)) for _ in range(2)]
        y = net.op("Mul", net.op("Tanh", both[0]), net.op("Sigmoid", both[1]))
        x = net.add(x, net.conv(y, 16, 1, act=None))
    net.output(net.conv(net.op("Relu", x), 4, 1, act=None))


def attention(net: Net, x: str, heads: int) -> str:
    """Self-attention on [N, T, C] with one product for queries, keys and values each."""
    length, wide = net.shape(x)[1:]
    inner = wide // heads
    q, k, v = (net.transpose(net.reshape(net.linear(x, wide), 0, length, heads, inner), 0, 2, 1, 3) for _ in range(3))
    scores = net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2))
    scores = net.op("Softmax", net.op("Div", scores, net.number(inner**0.5)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), 0, length, wide)
    return net.linear(y, wide)


@skeleton()
def conformer(net: Net):
    """Half-step MLPs around attention and a gated depthwise convolution."""
    x = net.series(8, 48)
    x = net.conv(net.conv(x, 24, 3, 2, norm=None), 24, 3, 2, norm=None)
    x = net.transpose(x, 0, 2, 1)
    for _ in range(2):
        y = net.linear(net.linear(net.layernorm(x), 48, "silu"), 24)
        x = net.add(x, net.op("Mul", y, net.number(0.5)))
        x = net.add(x, attention(net, net.layernorm(x), 4))
        y = net.transpose(net.layernorm(x), 0, 2, 1)
        left, right = net.split(net.conv(y, 48, 1, norm=None, act=None), 24, 24)
        y = net.op("Mul", left, net.op("Sigmoid", right))
        y = net.conv(net.depthwise(y, 7, act="silu"), 24, 1, norm=None, act=None)
        x = net.add(x, net.transpose(y, 0, 2, 1))
        y = net.linear(net.linear(net.layernorm(x), 48, "silu"), 24)
        x = net.layernorm(net.add(x, net.op("Mul", y, net.number(0.5))))
    net.output(net.op("LogSoftmax", net.linear(x, 8), axis=-1))


@skeleton()
def tdnn(net: Net):
    """x-vectors: dilated convolutions, then mean and deviation over time."""
    x = net.series(8, 40)
    for k, dilation in ((5, 1), (3, 2), (3, 3), (1, 1)):
        x = net.batchnorm(net.conv(x, 24, k, dilation=dilation, norm=None))
    x = net.conv(x, 40, 1)
    mean = net.reduce("ReduceMean", x, 2)
    centred = net.op("Sub", x, mean)
    var = net.reduce("ReduceMean", net.op("Mul", centred, centred), 2, keep=False)
    x = net.concat(net.squeeze(mean, 2), net.op("Sqrt", net.op("Add", var, net.number(1e-4))))
    net.output(net.linear(net.batchnorm(net.linear(x, 32, "relu")), 16))


@skeleton()
def ecapa(net: Net):
    """TDNN with Res2Net blocks, gates, joined stages and attention over time."""
    x = net.conv(net.series(6, 32), 24, 5)
    outs = []
    for dilation in (2, 3, 4):
        parts = net.split(net.conv(x, 24, 1), *[6] * 4)
        done = [parts[0]]
        for part in parts[1:]:
            part = part if len(done) == 1 else net.add(part, done[-1])
            done.append(net.conv(part, 6, dilation=dilation))
        y = net.conv(net.concat(*done), 24, 1)
        x = net.add(x, net.squeeze_excite(y, 8))
        outs.append(x)
    x = net.conv(net.concat(*outs), 40, 1, norm=None)
    weigh = net.op("Softmax", net.conv(net.conv(x, 12, 1, act="tanh"), 40, 1, norm=None, act=None), axis=2)
    mean = net.reduce("ReduceSum", net.op("Mul", x, weigh), 2, keep=False)
    square = net.reduce("ReduceSum", net.op("Mul", net.op("Mul", x, x), weigh), 2, keep=False)
    var = net.op("Sub", square, net.op("Mul", mean, mean))
    both = net.concat(mean, net.op("Sqrt", net.op("Clip", var, net.number(1e-4))))
    net.output(net.linear(both, 12))


def recurrent(net: Net, kind: str, x: str, hidden: int, both: bool = True, first: str = "", states: int = 1):
    """A recurrent layer over [T, N, C]; its sequence [T, N, directions * hidden] and its last states."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    directions, ci = 1 + both, net.shape(x)[2]
    w = net.const(net.normal(directions, gates * hidden, ci, scale=1.2 / ci**0.5))
    r = net.const(net.normal(directions, gates * hidden, hidden, scale=0.9 / hidden**0.5))
    b = net.const(net.normal(directions, 2 * gates * hidden, scale=0.2))
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}
    more = ["", first] if first else []
    out = net.op(kind, x, w, r, b, *more, outputs=2, hidden_size=hidden,
                 direction="bidirectional" if both else "forward", **extra)  # fmt: skip
    y = net.transpose(out[0], 0, 2, 1, 3)
    return net.reshape(y, 0, 0, -1), out[1]


@skeleton(norm="fold")
def crnn_lstm(net: Net):
    """Text lines: convolutions down to one row, two recurrent layers in both directions, scores for each place."""
    x = net.images(1, 32)
    for width, k, stride in ((12, 2, 2), (20, 2, 2)):
        x = net.maxpool(net.conv(net.conv(x, width), width), k, stride, pad=0)
    x = net.op("MaxPool", net.conv(x, 24), kernel_shape=[2, 1], strides=[2, 1])
    x = net.op("MaxPool", net.conv(x, 28), kernel_shape=[4, 1], strides=[4, 1])
    x = net.transpose(net.squeeze(x, 2), 2, 0, 1)
    for _ in range(2):
        x, _last = recurrent(net, "LSTM", x, 16)
        x = net.linear(x, 24)
    net.output(net.linear(x, 12), shape=[8, "N", 12])


@skeleton(norm=None)
def lstm_tagger(net: Net):
    """Embeddings, two layers of LSTM, a score for each token."""
    x = net.transpose(net.embedding(net.tokens(12, 40), 40, 20), 1, 0, 2)
    x, _ = recurrent(net, "LSTM", x, 20)
    x, _ = recurrent(net, "LSTM", x, 16, both=False)
    net.output(net.transpose(net.linear(net.linear(x, 24, "relu"), 7), 1, 0, 2))


@skeleton(norm=None)
def gru_seq2seq(net: Net):
    """An encoder's last state starts a decoder, which attends to the encoder's outputs."""
    source, target = net.tokens(10, 30, "source"), net.tokens(8, 30, "target")
    x = net.transpose(net.embedding(source, 30, 20), 1, 0, 2)
    x, _ = recurrent(net, "GRU", x, 20, both=False)
    encoded, last = recurrent(net, "GRU", x, 24, both=False)
    y = net.transpose(net.embedding(target, 30, 20), 1, 0, 2)
    y, _ = recurrent(net, "GRU", y, 24, both=False, first=last)
    keys, queries = net.transpose(encoded, 1, 0, 2), net.transpose(y, 1, 0, 2)
    scores = net.op("MatMul", net.linear(queries, 24, bias=False), net.transpose(keys, 0, 2, 1))
    found = net.op("MatMul", net.op("Softmax", scores, axis=-1), keys)
    y = net.linear(net.concat(queries, found, axis=2), 28, "tanh")
    net.output(net.linear(y, 30))


@skeleton(norm=None)
def gru_denoiser(net: Net):
    """Gains of bands from a stack of recurrent layers that all later layers read."""
    x = net.series(16, 20, last=True)
    first = net.transpose(net.linear(x, 24, "tanh"), 1, 0, 2)
    a, _ = recurrent(net, "GRU", first, 20, both=False)
    b, _ = recurrent(net, "GRU", net.concat(first, a, axis=2), 24, both=False)
    c, _ = recurrent(net, "RNN", net.concat(a, b, axis=2), 16, both=False)
    y = net.transpose(net.concat(a, b, c, axis=2), 1, 0, 2)
    net.output(net.op("Mul", x, net.op("Sigmoid", net.linear(y, 16))))


@skeleton()
def svtr(net: Net):
    """Text lines: patches from convolutions, local and global mixing, heights that are merged by strided convolutions."""
    x = net.conv(net.conv(net.images(1, 32), 12, 3, 2, act="gelu"), 24, 3, 2, act="gelu")
    for number, wide in enumerate((24, 32)):
        high, broad = net.shape(x)[2:]
        x = net.transpose(net.reshape(x, 0, wide, high * broad), 0, 2, 1)
        for _ in range(2):
            x = net.layernorm(net.add(x, attention(net, x, 4)))
            x = net.layernorm(net.add(x, net.linear(net.linear(x, wide * 2, "gelu"), wide)))
        x = net.reshape(net.transpose(x, 0, 2, 1), 0, wide, high, broad)
        if number == 0:
            x = net.conv(x, 32, 3, (2, 1), norm=None, act=None)
    x = net.op("AveragePool", x, kernel_shape=[4, 1], strides=[4, 1])
    x = net.conv(x, 32, 1, norm=None, act="hswish")
    net.output(net.linear(net.transpose(net.squeeze(x, 2), 0, 2, 1), 12))


@skeleton(norm="fold")
def textcnn(net: Net):
    """Kernels of three lengths over embeddings, maxima over time."""
    x = net.transpose(net.embedding(net.tokens(20, 50), 50, 24), 0, 2, 1)
    parts = []
    for k in (3, 5, 7):
        y = net.conv(net.conv(x, 20, k), 16, k)
        parts.append(net.squeeze(net.op("GlobalMaxPool", y), 2))
    net.output(net.linear(net.linear(net.concat(*parts), 32, "relu"), 4))


@skeleton()
def quartznet(net: Net):
    """Separable convolutions over time in residual blocks of several."""
    x = net.conv(net.depthwise(net.series(8, 48), 9, stride=2, norm=None, act=None), 24, 1)
    for out, k in ((24, 9), (32, 11)):
        for _ in range(2):
            y = x
            for number in range(3):
                y = net.conv(net.depthwise(y, k, norm=None, act=None), out, 1, act=None if number == 2 else "relu")
            x = net.op("Relu", net.add(net.conv(x, out, 1, act=None), y))
    net.output(net.op("LogSoftmax", net.transpose(net.conv(x, 9, 1, norm=None, act=None), 0, 2, 1), axis=2))


@skeleton(norm="fold")
def keyword_spotting(net: Net):
    """Separable convolutions on a spectrogram, and kernels over one axis."""
    x = net.conv(net.images(1, 24), 20, (9, 3), (2, 1))
    for _ in range(3):
        x = net.conv(net.depthwise(x), 20, 1)
    for _ in range(2):
        y = net.reduce("ReduceMean", net.depthwise(x, (3, 1), act=None), 2)
        y = net.conv(net.depthwise(y, (1, 3), act="silu"), 20, 1, norm=None, act=None)
        x = net.op("Relu", net.add(x, y))
    net.classify(x)


@skeleton(norm=None)
def wav2vec(net: Net):
    """Strided convolutions on samples, a grouped convolution for the place, a transformer."""
    x = net.conv(net.series(1, 160), 20, 10, 5, pad=0, act=None)
    x = net.activate(net.normalise(x, "in"), "gelu")
    x = net.conv(x, 20, 3, 2, pad=0, act="gelu")
    x = net.linear(net.layernorm(net.transpose(x, 0, 2, 1)), 24)
    place = net.transpose(net.conv(net.transpose(x, 0, 2, 1), 24, 5, groups=4, act="gelu"), 0, 2, 1)
    x = net.layernorm(net.add(x, place))
    for _ in range(2):
        x = net.layernorm(net.add(x, attention(net, x, 4)))
        x = net.layernorm(net.add(x, net.linear(net.linear(x, 48, "gelu"), 24)))
    net.output(net.linear(x, 10))


@skeleton(norm=None, act="leaky")
def hifigan(net: Net):
    """Upsampling by transposed convolutions, sums over residual blocks of several kernels."""
    x = net.conv(net.series(8, 12), 32, 7, act=None)
    for out in (24, 16):
        x = net.conv(net.activate(x, "leaky"), out, 4, 2, transposed=True, act=None)
        total = None
        for k, dilations in ((3, (1, 3)), (5, (1, 2))):
            y = x
            for dilation in dilations:
                z = net.conv(net.activate(y, "leaky"), out, k, dilation=dilation)
                y = net.add(y, net.conv(z, out, k, act=None))
            total = y if total is None else net.add(total, y)
        x = net.op("Div", total, net.number(2))
    net.output(net.conv(net.activate(x, "leaky"), 1, 7, act="tanh"))


@skeleton(norm=None, act="elu")
def encodec(net: Net):
    """Streams that are padded on the left, an LSTM at the narrowest place with a shortcut around it."""
    x = net.conv(net.series(1, 64), 12, 7, act=None)
    for out in (16, 24):
        y = net.conv(net.conv(net.activate(x, "elu"), net.width(x) // 2), net.width(x), 1, act=None)
        x = net.conv(net.activate(net.add(x, y), "elu"), out, 4, 2, pad=1, act=None)
    z = net.transpose(x, 2, 0, 1)
    y, _ = recurrent(net, "LSTM", z, 24, both=False)
    y, _ = recurrent(net, "LSTM", y, 24, both=False)
    x = net.transpose(net.add(y, z), 1, 2, 0)
    for out in (16, 12):
        x = net.conv(net.activate(x, "elu"), out, 4, 2, transposed=True, act=None)
        y = net.conv(net.conv(net.activate(x, "elu"), out // 2), out, 1, act=None)
        x = net.add(x, y)
    net.output(net.conv(net.activate(x, "elu"), 1, 7, act=None))
