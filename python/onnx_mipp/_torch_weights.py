"""The values of a pruned ONNX model in the narrowed PyTorch model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from . import Error, Result
from . import _torch_layers as layers
from . import _torch_names as names

if TYPE_CHECKING:
    import onnx

#: Scales of a norm below which a weight is not divided by them.
_LEAST = 1e-6
#: Norms, with what their inputs are from the second on.
_NORMS = {
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("weight", "bias"),
    "LayerNormalization": ("weight", "bias"),
    "GroupNormalization": ("weight", "bias"),
    "RMSNormalization": ("weight",),
    "PRelu": ("weight",),
    # Norms as several nodes.
    "Mul": ("weight",),
    "Add": ("bias",),
}


def load(weights: Any) -> onnx.ModelProto:
    """The model that holds them; needs the ``onnx`` package."""
    import onnx

    if isinstance(weights, Result):
        return weights.model
    if isinstance(weights, (str, os.PathLike)):
        return onnx.load(os.fspath(weights))
    if isinstance(weights, bytes):
        return onnx.load_from_string(weights)
    if isinstance(weights, onnx.ModelProto):
        return weights
    raise TypeError(f"weights: expected a result, a path, bytes or an onnx.ModelProto, found {type(weights).__name__}")


def take(model: onnx.ModelProto, module: nn.Module, merged: dict[str, str]) -> None:
    """Puts the values of a model's tensors into the layers that its nodes are of. ``merged`` are layers with the norm
    behind them: where the exporter merged the norm into the weight, its scales are taken out again, so that it
    keeps its meaning in training."""
    file = _File(model)
    modules = dict(module.named_modules())
    with torch.no_grad():
        for stored in module.state_dict():
            outer, _, own = stored.rpartition(".")
            if layers.size(modules[outer]) is None and stored in file.constants:
                _put(modules[outer], own, file.constants[stored])
        for node in model.graph.node:
            told = {"module": _scope(node), "node": node.name}
            slot = names.WEIGHTS.get(node.op_type)
            if slot is not None and slot < len(node.input):
                # Where a tensor has other readers, the program gives the cut one a name of its own.
                name = names.layer_of(told, node.input[slot].removesuffix("_pruned"), modules)
                norm = modules.get(merged.get(name or "", ""))
                if name is not None:
                    _weigh(file, node, name, modules[name], norm)
            elif node.op_type in _NORMS:
                owner = names.module_of(told, modules)
                layer = modules.get(owner or "")
                if layer is not None and layers.size(layer) is not None and not isinstance(layer, layers.MIXES):
                    _norm(file, node, layer)


class _File:
    """The constants of a model, and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        def read(stored: Any) -> Tensor:
            return torch.from_numpy(np.array(numpy_helper.to_array(stored)))

        graph = model.graph
        self.constants = {stored.name: read(stored) for stored in graph.initializer}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
            held = [self.constants.get(name) for name in node.input]
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = read(node.attribute[0].t)
            elif node.op_type == "Identity" and held[0] is not None:
                self.constants[node.output[0]] = held[0]
            elif node.op_type == "Transpose" and held[0] is not None:
                order = [attribute.ints for attribute in node.attribute if attribute.name == "perm"]
                turned = held[0].permute(*order[0]) if order else held[0].permute(*range(held[0].dim() - 1, -1, -1))
                self.constants[node.output[0]] = turned

    def input(self, node: Any, slot: int) -> Tensor | None:
        return self.constants.get(node.input[slot]) if slot < len(node.input) else None

    def added(self, node: Any, width: int) -> Tensor | None:
        """What the only reader of a product adds to its last axis."""
        readers = self.readers.get(node.output[0], [])
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        constants = [value for slot in (0, 1) if (value := self.input(readers[0], slot)) is not None]
        return constants[0] if len(constants) == 1 and constants[0].shape == (width,) else None


def _weigh(file: _File, node: Any, name: str, layer: Any, norm: nn.Module | None) -> None:
    """The weight and the bias of a layer that mixes channels."""
    value = file.input(node, names.WEIGHTS[node.op_type])
    if value is None:
        return
    is_turned = [attribute.i for attribute in node.attribute if attribute.name == "transB"] == [1]
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not is_turned):
        value = value.T
    if value.shape != layer.weight.shape:
        raise Error(
            f"by the plan the weight of '{name}' has the shape {list(layer.weight.shape)}, and {list(value.shape)} in "
            "weights=: give the model that was pruned by this plan"
        )
    bias = file.added(node, value.shape[0]) if node.op_type == "MatMul" else file.input(node, 2)
    weight = value.to(layer.weight)
    shift = None if bias is None or node.op_type == "Gather" else bias.to(layer.weight)
    readers = file.readers.get(node.output[0], [])
    if isinstance(norm, _BatchNorm) and not any(reader.op_type == "BatchNormalization" for reader in readers):
        weight, shift = _unmerged(layer, norm, weight, shift), None
    _put(layer, "weight", weight)
    if shift is not None and layer.bias is None:
        layer.bias = nn.Parameter(shift)
    elif shift is not None:
        _put(layer, "bias", shift)


def _unmerged(layer: Any, norm: _BatchNorm, weight: Tensor, shift: Tensor | None) -> Tensor:
    """The weight before the norm behind it was merged into it; what is added goes to the norm."""
    assert norm.running_var is not None and norm.running_mean is not None
    deviation = (norm.running_var + norm.eps).sqrt()
    own = torch.ones_like(deviation) if norm.weight is None else norm.weight
    if norm.weight is not None:
        own.copy_(torch.where((own / deviation).abs() < _LEAST, deviation, own))
    scale = own / deviation
    before = torch.zeros_like(scale) if layer.bias is None else layer.bias
    after = torch.zeros_like(scale) if shift is None else shift
    if norm.bias is not None:
        norm.bias.copy_(after - scale * (before - norm.running_mean))
    else:
        norm.running_mean.copy_(before - after / scale)
    if isinstance(layer, _ConvTransposeNd):
        groups = layer.groups
        apart = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return (apart / scale.reshape(groups, 1, -1, 1)).reshape(weight.shape)
    return weight / scale.reshape(-1, *[1] * (weight.dim() - 1))


def _norm(file: _File, node: Any, layer: nn.Module) -> None:
    values: list[Tensor | None]
    if node.op_type in ("Mul", "Add"):
        values = [value for slot in (0, 1) if (value := file.input(node, slot)) is not None]
    else:
        values = [file.input(node, slot) for slot in range(1, len(node.input))]
    for tensor, value in zip(_NORMS[node.op_type], values):
        if value is not None:
            _put(layer, tensor, value)


def _put(layer: nn.Module, tensor: str, value: Tensor) -> None:
    """Where sizes are not those of the layer, the comparison of the outputs tells."""
    own = getattr(layer, tensor, None)
    if own is not None and own.numel() == value.numel():
        own.copy_(value.reshape(own.shape))


def outputs(model: onnx.ModelProto, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Tensor]:
    """What the model gives, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = [value.name for value in session.get_inputs()]
    fed = dict(zip(wanted, arguments[0])) | {name: arguments[1][name] for name in wanted if name in arguments[1]}
    found = session.run(None, {name: value.detach().cpu().numpy() for name, value in fed.items()})
    return [torch.from_numpy(np.asarray(value)) for value in found]


def _scope(node: Any) -> str | None:
    """The module that dynamo's exporter notes."""
    for note in node.metadata_props:
        if note.key == "pkg.torch.onnx.name_scopes":
            around: list[str] = note.value.split("'")[1::2]
            return around[-2] if len(around) > 1 else None
    return None
