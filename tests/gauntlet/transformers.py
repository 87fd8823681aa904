"""Networks of tokens: attention, and what takes its place."""

import numpy as np
from net import Net, skeleton


def heads_of(net: Net, x: str, heads: int) -> str:
    """[N, T, C] as [N, heads, T, C / heads]."""
    length, wide = net.shape(x)[1:]
    return net.transpose(net.reshape(x, 0, length, heads, wide // heads), 0, 2, 1, 3)


def joined(net: Net, x: str) -> str:
    _, heads, length, inner = net.shape(x)
    return net.reshape(net.transpose(x, 0, 2, 1, 3), 0, length, heads * inner)


def attend(net: Net, q: str, k: str, v: str, mask: str = "", scaled: bool = True) -> str:
    """Softmax of products, on [N, heads, T, inner]."""
    scores = net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2))
    if scaled:
        scores = net.op("Div", scores, net.number(net.shape(q)[-1] ** 0.5))
    if mask:
        scores = net.op("Add", scores, mask)
    return net.op("MatMul", net.op("Softmax", scores, axis=-1), v)


def attention(net: Net, x: str, heads: int, other: str = "", mask: str = "", bias: bool = True, scaled: bool = True) -> str:
    wide = net.shape(x)[-1]
    q = heads_of(net, net.linear(x, wide, bias=bias), heads)
    k, v = (heads_of(net, net.linear(other or x, wide, bias=bias), heads) for _ in range(2))
    return net.linear(joined(net, attend(net, q, k, v, mask, scaled)), wide, bias=bias)


def packed_attention(net: Net, x: str, heads: int) -> str:
    """One product makes queries, keys and values, as in timm."""
    length, wide = net.shape(x)[1:]
    qkv = net.reshape(net.linear(x, 3 * wide), 0, length, 3, heads, wide // heads)
    qkv = net.transpose(qkv, 2, 0, 3, 1, 4)
    q, k, v = (net.op("Gather", qkv, net.const(np.int64(at)), axis=0) for at in range(3))
    return net.linear(joined(net, attend(net, q, k, v)), wide)


def mlp(net: Net, x: str, times: int = 2, act: str = "gelu") -> str:
    wide = net.shape(x)[-1]
    return net.linear(net.linear(x, wide * times, act), wide)


def patches(net: Net, x: str, wide: int, size: int) -> str:
    y = net.conv(x, wide, size, size, norm=None, act=None, pad=0)
    side = net.width(y, 2)
    return net.transpose(net.reshape(y, 0, wide, side * side), 0, 2, 1)


def with_token(net: Net, x: str, count: int) -> str:
    """Learnt tokens, repeated for each sample, before the others, and learnt places added."""
    wide = net.shape(x)[-1]
    batch = net.traced_size(x, 0)
    tokens = []
    for _ in range(count):
        shape = net.op("Concat", batch, net.ints(1, wide), axis=0)
        tokens.append(net.op("Expand", net.const(net.normal(1, 1, wide)), shape))
    x = net.concat(*tokens, x)
    return net.op("Add", x, net.const(net.normal(1, net.shape(x)[1], wide, scale=0.4)))


def token(net: Net, x: str, at: int) -> str:
    return net.op("Gather", x, net.const(np.int64(at)), axis=1)


@skeleton()
def vit(net: Net):
    x = with_token(net, patches(net, net.images(3, 24), 32, 6), 1)
    for _ in range(3):
        x = net.add(x, packed_attention(net, net.layernorm(x), 4))
        x = net.add(x, mlp(net, net.layernorm(x)))
    net.output(net.linear(token(net, net.layernorm(x), 0), 10))


@skeleton(opset=15)
def deit(net: Net):
    """A second token with a head of its own; the outputs are averaged. Norms in pieces."""
    x = with_token(net, patches(net, net.images(3, 20), 24, 5), 2)
    for _ in range(2):
        x = net.add(x, attention(net, net.layernorm_pieces(x), 3))
        x = net.add(x, mlp(net, net.layernorm_pieces(x)))
    x = net.layernorm_pieces(x)
    both = [net.linear(token(net, x, at), 10) for at in (0, 1)]
    net.output(net.op("Div", net.add(*both), net.number(2)))


@skeleton()
def swin(net: Net):
    """Windows, every second time shifted, with a bias of the places; patches merged between the stages."""
    side, wide, window = 8, 24, 4
    x = net.conv(net.images(3, 32), wide, 4, 4, norm=None, act=None, pad=0)
    x = net.layernorm(net.reshape(net.transpose(x, 0, 2, 3, 1), 0, side * side, wide))
    for stage in range(2):
        for shift in (0, 2) if side > window else (0, 0):
            y = net.reshape(net.layernorm(x), 0, side, side, wide)
            if shift:
                for axis in (1, 2):
                    y = net.concat(net.slice(y, axis, shift, 2**31), net.slice(y, axis, 0, shift), axis=axis)
            count = side // window
            y = net.reshape(y, -1, count, window, count, window, wide)
            y = net.reshape(net.transpose(y, 0, 1, 3, 2, 4, 5), -1, window * window, wide)
            heads = wide // 8
            q, k, v = (heads_of(net, net.linear(y, wide), heads) for _ in range(3))
            bias = net.const(net.normal(1, heads, window**2, window**2, scale=0.5))
            y = net.linear(joined(net, attend(net, q, k, v, bias)), wide)
            y = net.reshape(y, -1, count, count, window, window, wide)
            y = net.reshape(net.transpose(y, 0, 1, 3, 2, 4, 5), -1, side, side, wide)
            if shift:
                for axis in (1, 2):
                    y = net.concat(net.slice(y, axis, -shift, 2**31), net.slice(y, axis, 0, -shift), axis=axis)
            x = net.add(x, net.reshape(y, -1, side * side, wide))
            x = net.add(x, mlp(net, net.layernorm(x)))
        if stage == 0:
            y = net.reshape(x, -1, side, side, wide)
            rows = [net.slice(y, 1, first, 2**31, 2) for first in (0, 1)]
            parts = [net.slice(row, 2, first, 2**31, 2) for first in (0, 1) for row in rows]
            side, wide = side // 2, 32
            y = net.reshape(net.concat(*parts, axis=3), -1, side * side, 96)
            x = net.linear(net.layernorm(y), wide, bias=False)
    net.output(net.linear(net.reduce("ReduceMean", net.layernorm(x), 1, keep=False), 10))


@skeleton()
def pvt(net: Net):
    """Keys and values from a reduced grid, and a depthwise convolution inside the MLP."""
    x = net.conv(net.images(3, 32), 16, 7, 4, norm=None, act=None)
    for stage, wide in enumerate((16, 32)):
        if stage:
            x = net.conv(x, wide, 3, 2, norm=None, act=None)
        side = net.width(x, 2)
        x = net.layernorm(net.transpose(net.reshape(x, 0, wide, side * side), 0, 2, 1))
        for _ in range(2):
            y = net.layernorm(x)
            grid = net.reshape(net.transpose(y, 0, 2, 1), 0, wide, side, side)
            small = net.conv(grid, wide, 2, 2, norm=None, act=None, pad=0)
            small = net.layernorm(net.transpose(net.reshape(small, 0, wide, side * side // 4), 0, 2, 1))
            heads = wide // 8
            q = heads_of(net, net.linear(y, wide), heads)
            k, v = (heads_of(net, net.linear(small, wide), heads) for _ in range(2))
            x = net.add(x, net.linear(joined(net, attend(net, q, k, v)), wide))
            y = net.linear(net.layernorm(x), wide * 2)
            grid = net.reshape(net.transpose(y, 0, 2, 1), 0, wide * 2, side, side)
            grid = net.depthwise(grid, norm=None, act="gelu")
            y = net.transpose(net.reshape(grid, 0, wide * 2, side * side), 0, 2, 1)
            x = net.add(x, net.linear(y, wide))
        x = net.reshape(net.transpose(net.layernorm(x), 0, 2, 1), 0, wide, side, side)
    net.classify(x)


@skeleton()
def mobilevit(net: Net):
    """Convolutions around a transformer over patches that are unfolded and folded."""
    x = net.conv(net.images(3, 32), 12, 3, 2, act="silu")
    y = net.conv(net.depthwise(net.conv(x, 24, 1, act="silu"), stride=2, act="silu"), 16, 1, act=None)
    x = net.conv(y, 16, act="silu")
    for _ in range(2):
        before = x
        y = net.conv(net.conv(x, 16, act="silu"), 24, 1, norm=None, act=None)
        y = net.reshape(y, -1, 24, 4, 2, 4, 2)
        y = net.reshape(net.transpose(y, 0, 3, 5, 2, 4, 1), -1, 16, 24)
        for _ in range(2):
            y = net.add(y, packed_attention(net, net.layernorm(y), 3))
            y = net.add(y, mlp(net, net.layernorm(y), act="silu"))
        y = net.reshape(net.layernorm(y), -1, 2, 2, 4, 4, 24)
        y = net.reshape(net.transpose(y, 0, 5, 3, 1, 4, 2), -1, 24, 8, 8)
        y = net.conv(y, 16, 1, act="silu")
        x = net.conv(net.concat(before, y), 16, act="silu")
    net.classify(net.conv(x, 40, 1, act="silu"))


@skeleton(norm="fold")
def efficientvit(net: Net):
    """Attention without a softmax: products of positive queries with the sum of keys times values."""
    x = net.conv(net.images(3, 24), 16, 3, 2, act="hswish")
    for wide in (16, 24):
        if wide != net.width(x):
            x = net.conv(net.depthwise(net.conv(x, 48, 1, act="hswish"), stride=2, act="hswish"), wide, 1, act=None)
        side = net.width(x, 2)
        for _ in range(2):
            qkv = net.conv(x, 3 * 16, 1, norm=None, act=None)
            q, k, v = (net.reshape(part, 0, 2, 8, side * side) for part in net.split(qkv, 16, 16, 16))
            q, k = net.op("Relu", q), net.op("Relu", k)
            both = net.op("MatMul", v, net.transpose(k, 0, 1, 3, 2))
            y = net.op("MatMul", both, q)
            total = net.op("MatMul", net.transpose(net.reduce("ReduceSum", k, 3), 0, 1, 3, 2), q)
            y = net.op("Div", y, net.op("Add", total, net.number(1.0)))
            x = net.add(x, net.conv(net.reshape(y, 0, 16, side, side), wide, 1, act=None))
            y = net.conv(net.depthwise(net.conv(x, wide * 2, 1, act="hswish"), act="hswish"), wide, 1, act=None)
            x = net.add(x, y)
    net.classify(x)


@skeleton()
def bert(net: Net):
    """Three embeddings, a mask that is an input, norms behind the sums."""
    length = 12
    tokens = net.tokens(length, 60, "input_ids")
    kinds = net.input("token_type_ids", net.random.integers(0, 2, (net.samples, length)).astype(np.int64))
    real = np.arange(length)[None] < net.random.integers(5, length + 1, (net.samples, 1))
    mask = net.input("attention_mask", real.astype(np.int64))
    x = net.add(net.embedding(tokens, 60, 32), net.embedding(kinds, 2, 32))
    x = net.layernorm(net.add(x, net.const(net.normal(1, length, 32, scale=0.5))))
    hidden = net.op("Sub", net.number(1), net.op("Cast", net.unsqueeze(mask, 1, 2), to=1))
    hidden = net.op("Mul", hidden, net.number(-1e4))
    for _ in range(3):
        x = net.layernorm(net.add(x, attention(net, x, 4, mask=hidden)))
        x = net.layernorm(net.add(x, mlp(net, x)))
    net.output(net.linear(net.linear(token(net, x, 0), 32, "tanh"), 3))
    net.output(x)


@skeleton()
def sentence_model(net: Net):
    """Means of a BERT's tokens over the mask, scaled to a length of one."""
    length = 10
    tokens = net.tokens(length, 60, "input_ids")
    real = np.arange(length)[None] < net.random.integers(4, length + 1, (net.samples, 1))
    mask = net.op("Cast", net.input("attention_mask", real.astype(np.int64)), to=1)
    x = net.layernorm(net.embedding(tokens, 60, 24))
    hidden = net.op("Mul", net.op("Sub", net.number(1), net.unsqueeze(mask, 1, 2)), net.number(-1e4))
    for _ in range(2):
        x = net.layernorm(net.add(x, attention(net, x, 3, mask=hidden)))
        x = net.layernorm(net.add(x, mlp(net, x)))
    counted = net.unsqueeze(mask, 2)
    total = net.reduce("ReduceSum", net.op("Mul", x, counted), 1, keep=False)
    mean = net.op("Div", total, net.reduce("ReduceSum", counted, 1, keep=False))
    net.output(net.op("LpNormalization", mean, axis=1, p=2))


def rotated(net: Net, x: str, turns: tuple[str, str]) -> str:
    """Rotary places: halves are swapped with a sign, and mixed by cosines and sines."""
    half = net.shape(x)[-1] // 2
    first, second = net.slice(x, 3, 0, half), net.slice(x, 3, half, 2**31)
    swapped = net.concat(net.op("Neg", second), first, axis=3)
    return net.add(net.op("Mul", x, turns[0]), net.op("Mul", swapped, turns[1]))


def turns_of(net: Net, length: int, inner: int) -> tuple[str, str]:
    speeds = 100.0 ** (-np.arange(0, inner, 2) / inner)
    angle = np.outer(np.arange(length), np.concatenate([speeds, speeds]))[None, None]
    return net.const(np.cos(angle).astype(np.float32)), net.const(np.sin(angle).astype(np.float32))


def repeated(net: Net, x: str, times: int) -> str:
    """Heads of keys and values, each repeated for its queries by Expand."""
    _, heads, length, inner = net.shape(x)
    if times == 1:
        return x
    target = net.op("Concat", net.traced_size(x, 0), net.ints(heads, times, length, inner), axis=0)
    y = net.op("Expand", net.unsqueeze(x, 2), target)
    return net.reshape(y, 0, heads * times, length, inner)


def decoder(net: Net, kv_heads: int, vocabulary: int = 50, length: int = 12) -> None:
    wide, heads, inner = 32, 4, 8
    x = net.embedding(net.tokens(length, vocabulary), vocabulary, wide)
    turns = turns_of(net, length, inner)
    mask = net.const(np.triu(np.full((1, 1, length, length), -1e4, np.float32), 1))
    for _ in range(2):
        y = net.rmsnorm(x)
        q = heads_of(net, net.linear(y, heads * inner, bias=False), heads)
        k, v = (heads_of(net, net.linear(y, kv_heads * inner, bias=False), kv_heads) for _ in range(2))
        q, k = rotated(net, q, turns), rotated(net, k, turns)
        k, v = repeated(net, k, heads // kv_heads), repeated(net, v, heads // kv_heads)
        x = net.add(x, net.linear(joined(net, attend(net, q, k, v, mask)), wide, bias=False))
        y = net.rmsnorm(x)
        gate = net.linear(y, 48, "silu", bias=False, gain=1.4)
        x = net.add(x, net.linear(net.op("Mul", gate, net.linear(y, 48, bias=False)), wide, bias=False))
    net.output(net.linear(net.rmsnorm(x), vocabulary, bias=False))


@skeleton()
def gpt_gqa(net: Net):
    """Grouped queries, rotary places, gated MLPs, norms by the root of the mean square."""
    decoder(net, 2)


@skeleton()
def gpt_mqa(net: Net):
    """One head of keys and values for all queries."""
    wide, heads, inner, length = 32, 4, 8, 12
    x = net.add(net.embedding(net.tokens(length, 40), 40, wide), net.const(net.normal(1, length, wide, scale=0.5)))
    mask = net.const(np.triu(np.full((1, 1, length, length), -1e4, np.float32), 1))
    for _ in range(2):
        y = net.layernorm(x)
        q = heads_of(net, net.linear(y, heads * inner), heads)
        k, v = (net.unsqueeze(net.linear(y, inner), 1) for _ in range(2))
        x = net.add(x, net.linear(joined(net, attend(net, q, k, v, mask)), wide))
        x = net.add(x, mlp(net, net.layernorm(x), act="gelu_tanh"))
    net.output(net.linear(net.layernorm(x), 40, bias=False))


@skeleton()
def gpt2(net: Net):
    """As GPT-2 is exported: Conv1D as Gemm on flattened tokens, split thirds, a mask cut out of a constant."""
    wide, heads, length = 32, 4, 12
    x = net.add(net.embedding(net.tokens(length, 40), 40, wide), net.const(net.normal(1, length, wide, scale=0.5)))
    seen = net.const(np.tril(np.ones((1, 1, 16, 16), bool)))

    def conv1d(y, out):
        ci = net.shape(y)[-1]
        flat = net.reshape(y, -1, ci)
        w = np.ascontiguousarray(net.weight(out, ci, fan_in=ci, gain=1.0).T)
        flat = net.op("Gemm", flat, net.const(w), net.const(net.normal(out, scale=0.3)))
        return net.reshape(flat, -1, length, out)

    for _ in range(2):
        q, k, v = (heads_of(net, part, heads) for part in net.split(conv1d(net.layernorm(x), 3 * wide), wide, wide, wide, axis=2))
        scores = net.op("Div", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), net.number(8**0.5))
        cut = net.slice(net.slice(seen, 2, 0, length), 3, 0, length)
        scores = net.op("Where", cut, scores, net.number(-1e4))
        y = joined(net, net.op("MatMul", net.op("Softmax", scores, axis=-1), v))
        x = net.add(x, conv1d(y, wide))
        x = net.add(x, conv1d(net.activate(conv1d(net.layernorm(x), 48), "gelu_tanh"), wide))
    net.output(net.linear(net.layernorm(x), 40, bias=False))


@skeleton(opset=23)
def attention_operator(net: Net):
    """Attention, RMSNormalization and Gelu of opset 23 as single nodes."""
    x = patches(net, net.images(3, 20), 32, 5)
    for _ in range(2):
        gamma, _ = net.affine(32)
        y = net.op("RMSNormalization", x, net.const(gamma), axis=-1)
        q, k, v = (heads_of(net, net.linear(y, n), n // 8) for n in (32, 16, 16))
        x = net.add(x, net.linear(joined(net, net.op("Attention", q, k, v)), 32))
        x = net.add(x, mlp(net, net.layernorm(x)))
    net.output(net.linear(net.reduce("ReduceMean", x, 1, keep=False), 10))


@skeleton()
def t5(net: Net):
    """An encoder and a decoder with one table of relative places each, no scale, no bias, and cross-attention."""
    source, target = net.tokens(10, 40, "source"), net.tokens(8, 40, "target")
    table = net.const(net.normal(40, 32))
    places = [net.const(net.normal(1, 4, n, n, scale=0.7)) for n in (10, 8)]
    unseen = net.op("Add", places[1], net.const(np.triu(np.full((1, 1, 8, 8), -1e4, np.float32), 1)))

    def feed(x, gated):
        y = net.rmsnorm(x)
        inner = net.linear(y, 40, "gelu_tanh" if gated else "relu", bias=False, gain=1.4)
        if gated:
            inner = net.op("Mul", inner, net.linear(y, 40, bias=False))
        return net.add(x, net.linear(inner, 32, bias=False))

    options = {"bias": False, "scaled": False}
    x = net.op("Gather", table, source)
    for _ in range(2):
        x = net.add(x, attention(net, net.rmsnorm(x), 4, mask=places[0], **options))
        x = feed(x, False)
    memory = net.rmsnorm(x)
    y = net.op("Gather", table, target)
    for _ in range(2):
        y = net.add(y, attention(net, net.rmsnorm(y), 4, mask=unseen, **options))
        y = net.add(y, attention(net, net.rmsnorm(y), 4, other=memory, **options))
        y = feed(y, True)
    net.output(net.linear(net.rmsnorm(y), 40, bias=False))


@skeleton()
def mlp_mixer(net: Net):
    x = patches(net, net.images(3, 24), 24, 6)
    for _ in range(3):
        y = net.transpose(net.layernorm(x), 0, 2, 1)
        y = net.linear(net.linear(y, 32, "gelu"), 16)
        x = net.add(x, net.transpose(y, 0, 2, 1))
        x = net.add(x, mlp(net, net.layernorm(x)))
    net.output(net.linear(net.reduce("ReduceMean", net.layernorm(x), 1, keep=False), 10))


@skeleton(held="A norm runs over the half of the channels that gates the other half.")
def gmlp(net: Net):
    """One half of the channels, mixed over the places, gates the other half."""
    x = patches(net, net.images(3, 20), 24, 5)
    for _ in range(3):
        left, right = net.split(net.linear(net.layernorm(x), 64, "gelu", gain=1.4), 32, 32, axis=2)
        right = net.linear(net.transpose(net.layernorm(right), 0, 2, 1), 16)
        y = net.op("Mul", left, net.transpose(right, 0, 2, 1))
        x = net.add(x, net.linear(y, 24))
    net.output(net.linear(net.reduce("ReduceMean", net.layernorm(x), 1, keep=False), 10))


@skeleton(norm=None)
def poolformer(net: Net):
    """Means of neighbours less the values in place of attention, and a factor for each channel."""
    x = net.conv(net.images(3, 24), 20, 7, 4, act=None)
    for wide in (20, 32):
        if wide != net.width(x):
            x = net.conv(x, wide, 3, 2, act=None)
        for _ in range(2):
            y = net.normalise(x, "gn")
            pooled = net.op("AveragePool", y, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4, count_include_pad=0)
            factor = lambda: net.const(net.random.uniform(0.3, 0.9, (wide, 1, 1)).astype(np.float32))
            x = net.add(x, net.op("Mul", factor(), net.op("Sub", pooled, y)))
            y = net.conv(net.conv(net.normalise(x, "gn"), wide * 2, 1, act="gelu"), wide, 1, act=None)
            x = net.add(x, net.op("Mul", factor(), y))
    net.classify(x)


@skeleton(norm="fold")
def detr(net: Net):
    """A backbone, an encoder with places, a decoder whose queries are learnt, and two heads."""
    x = net.conv(net.conv(net.images(3, 32), 12, 3, 2), 20, 3, 2)
    for _ in range(2):
        x = net.op("Relu", net.add(x, net.conv(net.conv(x, 20), 20, act=None)))
    x = net.conv(net.conv(x, 24, 3, 2), 32, 1, norm=None, act=None)
    side = net.width(x, 2)
    x = net.transpose(net.reshape(x, 0, 32, side * side), 0, 2, 1)
    place = net.const(net.normal(1, side * side, 32, scale=0.7))

    def attend_to(queries, keys, values):
        q = heads_of(net, net.linear(queries, 32), 4)
        k, v = (heads_of(net, net.linear(part, 32), 4) for part in (keys, values))
        return net.linear(joined(net, attend(net, q, k, v)), 32)

    for _ in range(2):
        placed = net.add(x, place)
        x = net.layernorm(net.add(x, attend_to(placed, placed, x)))
        x = net.layernorm(net.add(x, net.linear(net.linear(x, 48, "relu"), 32)))
    memory = net.add(x, place)
    asked = net.const(net.normal(1, 6, 32))
    shape = net.op("Concat", net.traced_size(x, 0), net.ints(6, 32), axis=0)
    y = net.op("Expand", net.const(net.normal(1, 6, 32, scale=0.5)), shape)
    for _ in range(2):
        placed = net.add(y, asked)
        y = net.layernorm(net.add(y, attend_to(placed, placed, y)))
        y = net.layernorm(net.add(y, attend_to(net.add(y, asked), memory, x)))
        y = net.layernorm(net.add(y, net.linear(net.linear(y, 48, "relu"), 32)))
    net.output(net.linear(y, 5))
    net.output(net.op("Sigmoid", net.linear(net.linear(net.linear(y, 32, "relu"), 32, "relu", gain=1.4), 4, gain=2.5)))


@skeleton(norm="fold")
def parseq(net: Net):
    """Text lines: a ViT reads the image, and a decoder with learnt places reads that, its characters one after the other."""
    x = patches(net, net.images(1, 24), 24, 6)
    x = net.add(x, net.const(net.normal(1, 16, 24, scale=0.5)))
    for _ in range(2):
        x = net.add(x, packed_attention(net, net.layernorm(x), 3))
        x = net.add(x, mlp(net, net.layernorm(x)))
    memory = net.layernorm(x)
    characters = net.tokens(6, 14, "characters")
    context = net.add(net.embedding(characters, 14, 24), net.const(net.normal(1, 6, 24, scale=0.5)))
    shape = net.op("Concat", net.traced_size(x, 0), net.ints(6, 24), axis=0)
    y = net.op("Expand", net.const(net.normal(1, 6, 24)), shape)
    mask = net.const(np.triu(np.full((1, 1, 6, 6), -1e4, np.float32), 1))
    for _ in range(2):
        y = net.add(y, attention(net, net.layernorm(y), 3, other=net.layernorm(context), mask=mask))
        y = net.add(y, attention(net, net.layernorm(y), 3, other=memory))
        y = net.add(y, mlp(net, net.layernorm(y)))
    net.output(net.linear(net.layernorm(y), 14))


@skeleton()
def experts(net: Net):
    """All experts run as stacks of matrices, and a softmax weighs them."""
    x = net.embedding(net.tokens(8, 40), 40, 24)
    for _ in range(2):
        x = net.add(x, attention(net, net.layernorm(x), 3))
        y = net.layernorm(x)
        gates = net.op("Softmax", net.linear(y, 4, bias=False), axis=-1)
        first = net.const(np.ascontiguousarray(net.weight(4 * 32, 24, fan_in=24).reshape(4, 32, 24).transpose(0, 2, 1)))
        second = net.const(np.ascontiguousarray(net.weight(4 * 24, 32, fan_in=32).reshape(4, 24, 32).transpose(0, 2, 1)))
        inner = net.activate(net.op("MatMul", net.unsqueeze(y, 1), first), "gelu")
        each = net.op("MatMul", inner, second)
        gates = net.unsqueeze(net.transpose(gates, 0, 2, 1), 3)
        x = net.add(x, net.reduce("ReduceSum", net.op("Mul", each, gates), 1, keep=False))
    net.output(net.linear(net.layernorm(x), 40, bias=False))


@skeleton()
def perceiver(net: Net):
    """A few learnt vectors read many inputs, again and again."""
    x = net.linear(net.series(6, 24, last=True), 24)
    shape = net.op("Concat", net.traced_size(x, 0), net.ints(6, 32), axis=0)
    y = net.op("Expand", net.const(net.normal(1, 6, 32)), shape)
    for _ in range(2):
        q = heads_of(net, net.linear(net.layernorm(y), 24), 3)
        k, v = (heads_of(net, net.linear(net.layernorm(x), 24), 3) for _ in range(2))
        y = net.add(y, net.linear(joined(net, attend(net, q, k, v)), 32))
        y = net.add(y, mlp(net, net.layernorm(y)))
        y = net.add(y, attention(net, net.layernorm(y), 4))
        y = net.add(y, mlp(net, net.layernorm(y)))
    net.output(net.linear(net.reduce("ReduceMean", y, 1, keep=False), 6))
