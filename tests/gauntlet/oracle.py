"""What a cut without repair has to compute, told without the program: the dense model with zeros for what left.

Which inputs and outputs of a layer are left is read off the cut model's weights, whose values are found again in the dense
ones. A layer that no longer reads a channel is, in the dense model, one whose weights for it are zero.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.inliner
from net import session
from onnx import helper, numpy_helper


class Mismatch(Exception):
    """A weight of the cut model is no part of the dense one."""


@dataclass
class Weight:
    """A constant weight that a node multiplies with: its input slot, and the axes that it reads and makes."""

    node: onnx.NodeProto
    slot: int
    array: np.ndarray
    reads: list[int]
    makes: list[int]
    bias: int | None


def attribute(node: onnx.NodeProto, name: str, default):
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """All values that follow from constants alone and that a node with other inputs reads."""
    graph = model.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    folded, fixed = [], set(known)
    for node in graph.node:
        has_body = any(a.HasField("g") for a in node.attribute)
        if all(name in fixed or not name for name in node.input) and not has_body:
            fixed.update(node.output)
            folded.append(node)
    made = {name for node in folded for name in node.output}
    wanted = {name for node in graph.node if node not in folded for name in node.input if name in made}
    if wanted:
        part = onnx.ModelProto()
        part.CopyFrom(model)
        del part.graph.node[:], part.graph.output[:], part.graph.input[:], part.graph.value_info[:]
        part.graph.node.extend(folded)
        names = sorted(wanted)
        part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        known.update(zip(names, session(part).run(names, {})))
    return known


def weights(model: onnx.ModelProto, known: dict[str, np.ndarray]) -> list[Weight]:
    """The weights of all layers, in the order of the graph."""
    found = []
    for node in model.graph.node:
        get = lambda slot: known.get(node.input[slot]) if len(node.input) > slot else None
        match node.op_type:
            case "Conv" | "FusedConv" | "DeformConv" | "ConvInteger" if get(1) is not None:
                found.append(Weight(node, 1, get(1), [1], [0], 2 if node.op_type != "ConvInteger" else None))
            case "QLinearConv" if get(3) is not None:
                q, scale, zero = get(3), get(4), get(5)
                around = [-1, *[1] * (q.ndim - 1)] if scale.size > 1 else [1] * q.ndim
                array = (q.astype(np.int32) - zero.reshape(around)).astype(np.float32) * scale.reshape(around)
                found.append(Weight(node, 3, array, [1], [0], None))
            case "ConvTranspose" if get(1) is not None:
                found.append(Weight(node, 1, get(1), [0], [1], 2))
            case "MatMul" | "FusedMatMul" | "MatMulInteger" | "Gemm" | "FusedGemm":
                for slot, flag in ((1, "transB"), (0, "transA")):
                    array = get(slot)
                    if array is None or array.ndim < 2:
                        continue
                    turned = attribute(node, flag, 0) == 1
                    rank = array.ndim
                    ends = (rank - 2, rank - 1) if (slot == 1) != turned else (rank - 1, rank - 2)
                    bias = 2 if "Gemm" in node.op_type and slot == 1 else None
                    found.append(Weight(node, slot, array, [ends[0]], [ends[1]], bias))
                    break
            case "LSTM" | "GRU" | "RNN":
                for slot in (1, 2):
                    if get(slot) is not None:
                        found.append(Weight(node, slot, get(slot), [2], [], None))
            case "Einsum" if len(node.input) == 2:
                sides, result = attribute(node, "equation", b"").decode().replace(" ", "").split("->")
                sides = sides.split(",")
                for slot in (0, 1):
                    if get(slot) is not None:
                        mine, other = sides[slot], sides[1 - slot]
                        reads = [at for at, label in enumerate(mine) if label not in result]
                        makes = [at for at, label in enumerate(mine) if label in result and label not in other]
                        found.append(Weight(node, slot, get(slot), reads, makes, None))
    return found


def in_order(few: int, many: int, fits, axis: int) -> np.ndarray:
    """The first places of many at which the few fit, one after the other."""
    chosen, before = [], -1
    for at in range(few):
        found = [place for place in range(before + 1, many) if fits(at, place)]
        if not found:
            raise Mismatch(f"index {at} of axis {axis} has values that are nowhere in the original, in this order")
        before = found[0]
        chosen.append(before)
    return np.array(chosen)


def left(dense: np.ndarray, cut: np.ndarray) -> list[np.ndarray]:
    """The indexes along each axis at which the cut array's values lie in the dense one."""
    if dense.ndim != cut.ndim:
        raise Mismatch(f"has the shape {cut.shape}, not a part of {dense.shape}")
    places = [np.arange(many) for many in dense.shape]
    # In few bits large slices hold all values there are; small ones are told apart first.
    narrower = [axis for axis in range(dense.ndim) if dense.shape[axis] != cut.shape[axis]]
    narrower.sort(key=lambda axis: dense.size // dense.shape[axis])
    rest = dense
    for number, axis in enumerate(narrower):
        slices = [rest.take(place, axis) for place in range(rest.shape[axis])]
        if number + 1 == len(narrower):
            # Only this axis is longer, so that whole slices can be compared.
            same = lambda at, place: np.array_equal(cut.take(at, axis), slices[place])
        else:
            values = [set(part.ravel().tolist()) for part in slices]
            same = lambda at, place: set(cut.take(at, axis).ravel().tolist()) <= values[place]
        places[axis] = in_order(cut.shape[axis], rest.shape[axis], same, axis)
        rest = rest.take(places[axis], axis)
    if not np.array_equal(rest, cut):
        raise Mismatch(f"of shape {cut.shape} is no part of the original's {dense.shape}")
    return places


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def masked(dense: onnx.ModelProto, cut: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, list[int]]]:
    """The dense model that computes what the cut one should, and the outputs of each layer that are left."""
    dense, cut = inlined(dense), inlined(cut)
    result = onnx.ModelProto()
    result.CopyFrom(dense)
    known = constants(result)
    before, after = weights(result, known), weights(cut, constants(cut))
    if [kind(w) for w in before] != [kind(w) for w in after]:
        raise Mismatch(f"there are other layers: {len(before)} before, {len(after)} after")
    stays = {}
    for number, (old, new) in enumerate(zip(before, after)):
        try:
            places = left(old.array, new.array)
        except Mismatch as error:
            raise Mismatch(f"the weight of {old.node.name} {error}") from error
        makes = [places[axis] for axis in old.makes]
        if len(makes) == 1:
            stays[old.node.name] = makes[0].tolist()
        is_packed = old.node.op_type == "QLinearConv"
        zero = known[old.node.input[old.slot]].copy() if is_packed else old.array.copy()
        before_zeros = zero.copy()
        nothing = zero_of(old, known)
        for axis in [*old.reads, *old.makes]:
            gone = np.setdiff1d(np.arange(zero.shape[axis]), places[axis])
            view = np.moveaxis(zero, axis, 0)
            view[gone] = nothing
        if np.array_equal(zero, before_zeros):
            continue
        if old.node.op_type.endswith("Integer"):
            # The quantiser before it measures its range over what is left.
            mask_quantiser(result, old, places[old.reads[0]])
        replace(result, old.node, old.slot, zero, f"masked/{number}")
        if old.bias is not None and len(old.node.input) > old.bias and old.node.input[old.bias] in known:
            bias = known[old.node.input[old.bias]].copy()
            if bias.shape and bias.shape[-1] == old.array.shape[old.makes[0]]:
                bias[..., np.setdiff1d(np.arange(bias.shape[-1]), makes[0])] = 0
                replace(result, old.node, old.bias, bias, f"masked/{number}/bias")
    return result, stays


def kind(weight: Weight) -> str:
    """The operator; what is fused or in integers may be taken apart."""
    return weight.node.op_type.removeprefix("Fused").removeprefix("QLinear")


def zero_of(weight: Weight, known: dict[str, np.ndarray]):
    """What stands for zero: the zero point in layers of integers."""
    if not weight.node.op_type.endswith("Integer") and weight.node.op_type != "QLinearConv":
        return 0
    slot = 5 if weight.node.op_type == "QLinearConv" else 3
    if len(weight.node.input) <= slot or not weight.node.input[slot]:
        return 0
    point = known[weight.node.input[slot]]
    point = point.reshape(-1)[:1] if point.size and (point == point.reshape(-1)[0]).all() else point
    if point.size > 1:
        raise Mismatch(f"the layer {weight.node.name} has several zero points, for which there is no oracle")
    return point.reshape(()).item()


def mask_quantiser(model: onnx.ModelProto, weight: Weight, stays: np.ndarray) -> None:
    """Multiplies with zeros what a dynamic quantiser before a layer of integers reads."""
    quantiser = next(n for n in model.graph.node if weight.node.input[0] in n.output)
    if quantiser.input[0].startswith("masked/"):
        return
    size = weight.array.shape[weight.reads[0]]
    mask = np.zeros(size, np.float32)
    mask[stays] = 1
    around = (size, *[1] * (weight.array.ndim - 2)) if weight.node.op_type == "ConvInteger" else (size,)
    name = f"masked/{weight.node.name}"
    model.graph.initializer.append(numpy_helper.from_array(mask.reshape(around), f"{name}/mask"))
    at = list(model.graph.node).index(quantiser)
    model.graph.node.insert(at, helper.make_node("Mul", [quantiser.input[0], f"{name}/mask"], [name]))
    model.graph.node[at + 1].input[0] = name


def replace(model: onnx.ModelProto, node: onnx.NodeProto, slot: int, array: np.ndarray, name: str) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    node.input[slot] = name


def parameters(model: onnx.ModelProto) -> dict[str, int]:
    """Elements of all stored weights by name, each counted once."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            stored.update({node.output[0]: a.t for a in node.attribute if a.name == "value"})
    kinds = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    return {name: int(np.prod(t.dims)) for name, t in stored.items() if t.data_type in kinds}


def macs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> float | None:
    """Multiply-accumulates of the layers and of products of two activations, from the shapes of a run; None where there is an
    operator with another count."""
    model = inlined(model)
    known = constants(model)
    found = weights(model, known)
    others = {"Attention", "MultiHeadAttention", "GroupQueryAttention", "MatMulNBits", "Einsum"}
    plain = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedMatMul")
    if any(w.node.op_type not in plain for w in found) or any(n.op_type in others for n in model.graph.node):
        return None
    layers = {w.node.name for w in found}
    products = [n for n in model.graph.node if n.op_type in plain and n.name not in layers and n.output[0] not in known]
    names = [w.node.output[0] for w in found] + [name for n in products for name in (n.output[0], *n.input[:2])]
    names += [w.node.input[0] for w in found if w.node.op_type == "ConvTranspose"]
    shapes = shapes_of(model, feeds, set(names) - set(known)) | {name: array.shape for name, array in known.items()}
    total = 0.0
    for w in found:
        if w.node.op_type == "ConvTranspose":
            total += float(np.prod(shapes[w.node.input[0]])) * float(np.prod(w.array.shape[1:]))
        elif w.node.op_type == "Conv":
            total += float(np.prod(shapes[w.node.output[0]])) * float(np.prod(w.array.shape[1:]))
        else:
            total += float(np.prod(shapes[w.node.output[0]])) * w.array.shape[w.reads[0]]
    for node in products:
        left, right = (shapes[name] for name in node.input[:2])
        inner = np.prod(right[1:]) if node.op_type == "Conv" else left[-2 if attribute(node, "transA", 0) else -1]
        total += float(np.prod(shapes[node.output[0]])) * float(inner)
    return total


def shapes_of(model: onnx.ModelProto, feeds: dict[str, np.ndarray], names: set[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of values in a run."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    more = sorted(names - {output.name for output in probe.graph.output} - set(feeds))
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in more)
    asked = sorted(names - set(feeds))
    found = {name: array.shape for name, array in zip(asked, session(probe).run(asked, feeds))}
    return found | {name: array.shape for name, array in feeds.items()}
