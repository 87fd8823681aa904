"""Plans for onnx-mipp that keep the channels with the largest weights, at one ratio for all groups."""

import json
from subprocess import run

import numpy as np
import onnx
from onnx import numpy_helper

RATIO_STEPS = 2000


class Groups:
    """The groups that onnx-mipp finds, with what a choice of widths costs."""

    def __init__(self, binary, path):
        command = [binary, "inspect", path, "--json"]
        self.groups = json.loads(run(command, check=True, capture_output=True, text=True).stdout)["groups"]
        proto = onnx.load(path)
        self.nodes = [n for n in proto.graph.node if n.op_type in ("Conv", "Gemm")]
        self.weights = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
        self.positions = self.rows_per_weight(proto)

    def rows_per_weight(self, proto):
        """How often each weight is applied per image: the positions of its output."""
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        inferred = onnx.shape_inference.infer_shapes(proto).graph
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.value_info}
        return {n.input[1]: int(np.prod(shapes.get(n.output[0], [1, 1])[2:])) for n in self.nodes}

    def macs(self, widths):
        total = 0
        for weight, positions in self.positions.items():
            dims = list(self.weights[weight].shape)
            for group, width in zip(self.groups, widths):
                for place in group["places"]:
                    if place["tensor"] == weight:
                        dims[place["axis"]] -= place["positions"] * (group["channels"] - width)
            total += positions * int(np.prod(dims))
        return total

    def scores(self, group):
        """Per channel, the L1 norm of the weights that make it, over all its producers."""
        total = np.zeros(group["channels"])
        for place in group["places"]:
            for node in self.nodes:
                output_axis = 0 if node.op_type == "Conv" or attribute(node, "transB") else 1
                if place["tensor"] == node.input[1] and place["axis"] == output_axis:
                    made = np.moveaxis(np.abs(self.weights[node.input[1]]), output_axis, 0)
                    total += made.reshape(group["channels"], -1).sum(1)
        return total


def attribute(node, name):
    return next((a.i for a in node.attribute if a.name == name), 0)


def l1_plan(binary, path, budget):
    """Every group at the largest ratio that meets the budget, then one channel more each while it is met."""
    found = Groups(binary, path)
    full = [g["channels"] for g in found.groups]
    free = [not g["frozen"] for g in found.groups]
    target = budget * found.macs(full)
    for step in range(RATIO_STEPS, 0, -1):
        widths = [max(1, round(c * step / RATIO_STEPS)) if f else c for c, f in zip(full, free)]
        if found.macs(widths) <= target:
            break
    for i in range(len(widths)):
        more = [w + (j == i) for j, w in enumerate(widths)]
        if free[i] and widths[i] < full[i] and found.macs(more) <= target:
            widths = more
    plan = []
    for group, width in zip(found.groups, widths):
        kept = np.sort(np.argsort(-found.scores(group), kind="stable")[:width])
        plan.append({"name": group["name"], "channels": group["channels"], "kept": kept.tolist()})
    return {"groups": plan}
