"""What is measured of a pruned model, and where it is kept."""

import copy
import json
import re
from time import perf_counter

import numpy as np
import onnx
import onnxruntime

from figures import tables

LATENCY_BATCH = 32
LATENCY_ROUNDS = 60


def session(model):
    """A session on one thread: the figures do not depend on how many cores are free."""
    raw = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def onnx_logits(proto, images):
    return np.concatenate([session(proto).run(None, {"input": part})[0] for part in np.array_split(images, 4)])


def accuracy(logits, labels):
    return 100 * float((np.asarray(logits).argmax(1) == labels).mean())


def onnx_accuracy(proto, data):
    return accuracy(onnx_logits(proto, data["images"]), data["labels"])


def onnx_macs(proto):
    """Multiply-accumulates per image of Conv and Gemm nodes."""
    proto = copy.deepcopy(proto)
    del proto.graph.value_info[:]  # sizes from before the pruning
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(proto).graph
    shapes = {i.name: list(i.dims) for i in graph.initializer}
    for value in [*graph.value_info, *graph.output]:
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]][1:]) * np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "Gemm":
            total += int(np.prod(shapes[node.input[1]]))
    return total


class Results(dict):
    """What was measured of one net: an entry per figure, written at once so that a run can go on later.

    Keys are `method | scope | budget`. The pruned models lie beside it, for the latencies.
    """

    def __init__(self, folder, net):
        self.path = folder / f"{net}.json"
        self.models = folder / net
        self.models.mkdir(parents=True, exist_ok=True)
        super().__init__(json.loads(self.path.read_text()) if self.path.exists() else {})

    def model_path(self, key):
        return self.models / (re.sub(r"[^A-Za-z0-9.]+", "_", key) + ".onnx")

    def add(self, key, entry, model=None):
        if model is not None:
            self.model_path(key).write_bytes(model.SerializeToString())
        self[key] = entry | {"commit": tables.commit()}
        self.save()
        print(self.path.stem, key, entry, flush=True)

    def save(self):
        there = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.update({k: v for k, v in there.items() if k not in self})  # of another run at the same time
        partial = self.path.with_suffix(".part")  # an interrupted write must not lose what is there
        partial.write_text(json.dumps(self, indent=1))
        partial.replace(self.path)

    def add_latencies(self, images):
        """Milliseconds of a batch, the least of rounds in which all models take turns."""
        keys = [k for k in self if self.model_path(k).exists()]
        if all("latency" in self[k] for k in keys):
            return
        batch = {"input": np.ascontiguousarray(images[:LATENCY_BATCH])}
        sessions = {k: session(self.model_path(k).read_bytes()) for k in keys}
        least = dict.fromkeys(keys, float("inf"))
        for _ in range(LATENCY_ROUNDS):
            for key, one in sessions.items():
                least[key] = min(least[key], timed(one, batch))
        for key, seconds in least.items():
            self[key]["latency"] = 1000 * seconds
        self.save()


def timed(one, batch):
    start = perf_counter()
    one.run(None, batch)
    return perf_counter() - start
