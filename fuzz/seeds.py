"""Writes the seeds of the fuzzer's corpus, small files of every kind that the program reads:

    python fuzz/seeds.py BIN

with the packages of requirements-test.txt; BIN is the program, which makes a file of statistics."""

import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CORPUS = pathlib.Path(__file__).parent / "corpus"
RANDOM = np.random.default_rng(7)


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def w(name, *shape, dtype=np.float32):
    values = RANDOM.standard_normal(shape) * (20 if dtype == np.int8 else 0.3)
    return numpy_helper.from_array(values.astype(dtype), name)


def i(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def chain(text, shape, constants, domain="", told=()):
    """A model of lines `a, b = Op(x, y) key=value ...`; the last value is the output. What shape inference does
    not find is `told`."""
    nodes = []
    for line in text.strip().splitlines():
        made, op, read, rest = re.fullmatch(r"\s*(.+?) = ([\w.]+)\((.*?)\)\s*(.*)", line).groups()
        attributes = {key: json.loads(what) for key, what in (pair.split("=", 1) for pair in rest.split())}
        inputs = [name.strip() for name in read.split(",")]
        outputs = [name.strip() for name in made.split(",")]
        own = domain if op.startswith("ms.") else ""
        node = helper.make_node(op.removeprefix("ms."), inputs, outputs, name=outputs[0], domain=own, **attributes)
        nodes.append(node)
    output = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    return model(nodes, [value("x", shape)], [output], constants, [domain] if domain else [], told=told)


def model(nodes, inputs, outputs, constants, domains=(), functions=(), told=()):
    told = [value(name, shape) for name, shape in told]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=constants, value_info=told)
    imports = [helper.make_opsetid("", 20)] + [helper.make_opsetid(domain, 1) for domain in domains]
    made = helper.make_model(graph, opset_imports=imports, functions=list(functions), producer_name="")
    made.ir_version = 10
    return onnx.shape_inference.infer_shapes(made, data_prop=True)


def functions():
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    node = helper.make_node
    dense = helper.make_function(
        "local", "Dense", ["a", "k"], ["c"],
        [node("MatMul", ["a", "k"], ["b"]), node("Act", ["b"], ["c"], domain="local")], imports,
    )
    act = node("LeakyRelu", ["a"], ["b"])
    act.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    act = helper.make_function("local", "Act", ["a"], ["b"], [act], imports, attributes=["slope"])
    calls = [node("Dense", ["x", "v"], ["h"], domain="local"), node("Dense", ["h", "u"], ["y"], domain="local")]
    constants = [w("v", 3, 6), w("u", 6, 2)]
    outputs = [value("y", ["N", 2])]
    # The last two are there when the functions are in place.
    told = [("h", ["N", 6]), ("h/b", ["N", 6]), ("y/b", ["N", 2])]
    return model(calls, [value("x", ["N", 3])], outputs, constants, ["local"], [dense, act], told)


def control():
    node = helper.make_node
    then = helper.make_graph([node("MatMul", ["a", "k"], ["t"]), node("Relu", ["t"], ["t2"])], "t", [], [value("t2", None)])
    other = helper.make_graph([node("Neg", ["a"], ["e"])], "e", [], [value("e", None)])
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Tanh", ["s"], ["s2"])], "b",
        [value("n", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("s", None)],
        [value("on", [], TensorProto.BOOL), value("s2", None)],
    )
    nodes = [
        node("MatMul", ["x", "v"], ["a"]),
        node("If", ["yes"], ["b"], then_branch=then, else_branch=other),
        node("Loop", ["three", "yes", "b"], ["c"], body=body),
        node("MatMul", ["c", "u"], ["y"]),
    ]
    constants = [w("v", 3, 6), w("k", 6, 6), w("u", 6, 2), numpy_helper.from_array(np.array(True), "yes"),
                 numpy_helper.from_array(np.array(3), "three")]
    return model(nodes, [value("x", ["N", 3])], [value("y", ["N", 2])], constants)


def models():
    bn = [w("s", 6), w("t", 6), w("m", 6), numpy_helper.from_array(np.ones(6, np.float32), "d")]
    yield "conv", chain("""
        a = Conv(x, v) pads=[1,1,1,1]
        b = BatchNormalization(a, s, t, m, d)
        c = Relu(b)
        e = Conv(c, k) group=6 pads=[1,1,1,1]
        f = Clip(e)
        g = Add(f, c)
        h = MaxPool(g) kernel_shape=[2,2] strides=[2,2]
        j = Conv(h, p)
        l = GlobalAveragePool(j)
        n = Flatten(l)
        y = Gemm(n, q, r) transB=1
    """, [1, 2, 4, 4], [w("v", 6, 2, 3, 3), w("k", 6, 1, 3, 3), w("p", 4, 6, 1, 1), w("q", 3, 4), w("r", 3), *bn])
    yield "joins", chain("""
        a = Conv(x, v)
        b, c = Split(a, sp) axis=1
        e = PRelu(b, slope)
        f = Mul(e, c)
        g = Slice(f, s0, s4, s1)
        h = Gather(g, idx) axis=1
        j = Concat(h, f) axis=1
        k = Reshape(j, apart)
        l = Transpose(k) perm=[0,2,1,3,4]
        m = Reshape(l, joined)
        n = Pad(m, pads)
        o = Resize(n, , scales) mode="nearest"
        p = ConvTranspose(o, w) strides=[2,2] group=2
        q = InstanceNormalization(p, in1, in2)
        y = Conv(q, z)
    """, [1, 2, 3, 3], [
        w("v", 8, 2, 1, 1), i("sp", 4, 4), w("slope", 4, 1, 1), i("s0", 0), i("s4", 4), i("s1", 1), i("idx", 3, 1, 0, 2),
        i("apart", 0, 2, 4, 3, 3), i("joined", 0, -1, 3, 3), i("pads", 0, 0, 1, 1, 0, 0, 0, 0),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"), w("w", 8, 3, 2, 2), w("in1", 6), w("in2", 6),
        w("z", 2, 6, 1, 1)])
    yield "attention", chain("""
        n = LayerNormalization(x, lg, lb) axis=-1
        q = MatMul(n, wq)
        k = MatMul(n, wk)
        v = MatMul(n, wv)
        q1 = Reshape(q, heads)
        k1 = Reshape(k, heads)
        v1 = Reshape(v, heads)
        q2 = Transpose(q1) perm=[0,2,1,3]
        k2 = Transpose(k1) perm=[0,2,3,1]
        v2 = Transpose(v1) perm=[0,2,1,3]
        s = MatMul(q2, k2)
        t = Mul(s, half)
        u = Softmax(t) axis=-1
        o = MatMul(u, v2)
        p = Transpose(o) perm=[0,2,1,3]
        r = Reshape(p, whole)
        z = MatMul(r, wo)
        a = Add(z, x)
        b = MatMul(a, w1)
        c = Gelu(b)
        d = MatMul(c, w2)
        y = Add(d, a)
    """, [1, 3, 4], [
        w("lg", 4), w("lb", 4), *(w(name, 4, 4) for name in ("wq", "wk", "wv", "wo")), i("heads", 0, 0, 2, 2), i("whole", 0, 0, 4),
        w("half"), w("w1", 4, 6), w("w2", 6, 4)])
    yield "recurrent", chain("""
        a = Transpose(x) perm=[1,0,2]
        b, hn, cn = LSTM(a, w, r, c) hidden_size=3
        d = Squeeze(b, one)
        e = GRU(d, gw, gr) hidden_size=2 direction="bidirectional"
        f = Transpose(e) perm=[0,2,1,3]
        g = Reshape(f, flat)
        h = RNN(g, rw, rr) hidden_size=2
        j = ReduceMean(h, zero) keepdims=0
        y = MatMul(j, fc)
    """, [1, 3, 2], [
        w("w", 1, 12, 2), w("r", 1, 12, 3), w("c", 1, 24), i("one", 1), w("gw", 2, 6, 3), w("gr", 2, 6, 2), i("flat", 0, 0, -1),
        w("rw", 1, 2, 4), w("rr", 1, 2, 2), i("zero", 0), w("fc", 2, 2)])
    yield "quantised", chain("""
        a = DequantizeLinear(v, vs, vz) axis=0
        b = Conv(x, a)
        c = QuantizeLinear(b, s, z)
        d = DequantizeLinear(c, s, z)
        e = DequantizeLinear(k, ks, kz) axis=0
        f = Conv(d, e)
        y = ReduceMean(f, axes) keepdims=0
    """, [1, 2, 2, 2], [
        w("v", 4, 2, 1, 1, dtype=np.int8), w("vs", 4), numpy_helper.from_array(np.zeros(4, np.int8), "vz"),
        w("k", 2, 4, 1, 1, dtype=np.int8), w("ks", 2), numpy_helper.from_array(np.zeros(2, np.int8), "kz"),
        numpy_helper.from_array(np.float32(0.05), "s"), numpy_helper.from_array(np.int8(0), "z"), i("axes", 2, 3)])
    yield "shapes", chain("""
        a = MatMul(x, v)
        b = Shape(a)
        c = Gather(b, zero)
        d = Concat(c, last) axis=0
        e = Reshape(a, d)
        f = Einsum(e, k) equation="nchw,cd->ndhw"
        g = Unsqueeze(f, one)
        h = Squeeze(g, one)
        j = DepthToSpace(h) blocksize=2
        k1 = SpaceToDepth(j) blocksize=2
        l = Expand(k1, b4)
        m = Where(mask, l, k1)
        n = ReduceMean(m, axes) keepdims=0
        o = Tile(n, reps)
        p = Cast(o) to=1
        y = MatMul(p, q)
    """, [1, 3], [
        w("v", 3, 8), i("zero", 0), i("last", 8, 1, 1), w("k", 8, 4), i("one", 1), i("b4", 1, 4, 1, 1), i("axes", 2, 3),
        i("reps", 1, 2), numpy_helper.from_array(np.array(True), "mask"), w("q", 8, 2)])
    yield "norms", chain("""
        a = Conv(x, v)
        b = GroupNormalization(a, gs, gt) num_groups=2
        c = HardSwish(b)
        d = Conv(c, k)
        e = LRN(d) size=3
        f = LpNormalization(e) axis=1
        g = Softmax(f) axis=1
        h = AveragePool(g) kernel_shape=[2,2]
        y = Conv(h, u)
    """, [1, 2, 3, 3], [w("v", 8, 2, 1, 1), w("gs", 2), w("gt", 2), w("k", 4, 8, 1, 1), w("u", 2, 4, 1, 1)], told=[("b", [1, 8, 3, 3])])
    yield "fused", chain("""
        a = ms.FusedConv(x, v, b) activation="Relu"
        c = Conv(a, k)
        d = Flatten(c)
        e = ms.FusedGemm(d, u, t) activation="LeakyRelu" activation_alpha=0.1
        f = ms.BiasGelu(e, s)
        g = ms.SkipLayerNormalization(f, f, lg, lb)
        y = MatMul(g, q)
    """, [1, 2, 2, 2], [
        w("v", 4, 2, 1, 1), w("b", 4), w("k", 3, 4, 1, 1), w("u", 12, 5), w("t", 5), w("s", 5), w("lg", 5), w("lb", 5),
        w("q", 5, 2)], domain="com.microsoft", told=[
            ("a", [1, 4, 2, 2]), ("c", [1, 3, 2, 2]), ("d", [1, 12]), ("e", [1, 5]), ("f", [1, 5]), ("g", [1, 5])])
    yield "control", control()
    yield "functions", functions()


def array(values, **how):
    out = io.BytesIO()
    np.lib.format.write_array(out, values, **how)
    return out.getvalue()


def arrays():
    x = RANDOM.standard_normal((9, 2))
    for name, values in {
        "f4": x.astype(np.float32), "f8": x, "f2": x.astype(np.float16), "u1": (x * 9).astype(np.uint8),
        "fortran": np.asfortranarray(x.astype(np.float32)), "big": x.astype(">f4"), "i8": (x * 9).astype(np.int64),
    }.items():
        put("arrays", name, b"\0" + array(values))
    put("arrays", "version2", b"\0" + array(x.astype(np.float32), version=(2, 0)))
    for name, save in (("npz", np.savez), ("deflated", np.savez_compressed)):
        out = io.BytesIO()
        save(out, x=x.astype(np.float32))
        put("arrays", name, b"\1" + out.getvalue())
    for name, values in (("pb", x.astype(np.float32)), ("pb_f8", x)):
        put("arrays", name, b"\2" + numpy_helper.from_array(values, "x").SerializeToString())


def statistics(program):
    made = chain("""
        a = MatMul(x, v)
        b = Relu(a)
        y = MatMul(b, w)
    """, ["N", 2], [w("v", 2, 4), w("w", 4, 2)])
    for samples in (3, 40):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            onnx.save(made, folder / "m.onnx")
            np.save(folder / "c.npy", RANDOM.standard_normal((samples, 2)).astype(np.float32))
            subprocess.run([program, "m.onnx", "--dry-run", "--ratio", "0.5", "--calib", "c.npy", "--stats-out", "s"],
                           cwd=folder, check=True, capture_output=True)
            # The target knows the model as "m" and adds the checksum itself.
            data = (folder / "s").read_bytes()[:-32]
        start = 24
        length = int.from_bytes(data[start:start + 8], "little")
        header = json.loads(data[start + 8:start + 8 + length])
        header["origin"]["model"] = "m"
        text = json.dumps(header, separators=(",", ":")).encode()
        put("statistics", f"of_{samples}", data[:start] + len(text).to_bytes(8, "little") + text + data[start + 8 + length:])


PLANS = [
    [["MatMula", 4, [0, 2]], ["MatMuly", 2, [0, 1]]],
    [["MatMula", 4, [0, 1, 2, 3]], ["MatMuly", 2, [0, 1]]],
    [["MatMula", 4, [3]], ["MatMuly", 2, [0]]],
    [["MatMula", 4, [2, 1]], ["MatMuly", 2, []]],
]
CONFIGURATIONS = [
    'macs = 0.5\ncalib = ["a.npy", "b"]\nquiet = true\n',
    'ratio = 0.3\nonly = ["conv*", "fc"]\nexclude = ["last"]\nshape = ["x=1x3x8x8"]\nmean = [0.1, 0.2, 0.3]\n',
    'repair = "sequential"\nestimator = "copula"\nmemory = 64\nseed = 3\nsamples = 10\nbatch = 2\n',
    'latency = 0.5\ndevice = "cpu"\nthreads = 2\nalign = 8\nmin-channels = 2\nbest-effort = true\nplan-out = "p.json"\n',
    'mi = 0.9\nresize = 256\ncrop = 224\nlayout = "nchw"\ncolor = "bgr"\nscale = 0.004\nexif = "apply"\n',
]


def main():
    for name, made in models():
        data = made.SerializeToString()
        for target in ("decode", "inline", "groups"):
            put(target, name, data)
        put("cut", name, hashlib.sha256(name.encode()).digest()[:8] + data)
    arrays()
    statistics(pathlib.Path(sys.argv[1]).resolve())
    for number, groups in enumerate(PLANS):
        planned = [{"name": name, "channels": many, "kept": kept} for name, many, kept in groups]
        put("plans", f"plan{number}", json.dumps({"groups": planned}).encode())
    for number, text in enumerate(CONFIGURATIONS):
        put("toml", f"options{number}", text.encode())


main()
