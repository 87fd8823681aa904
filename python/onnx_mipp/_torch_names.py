"""Which layers and parameters of a module the tensors of a plan are, by the names that PyTorch's exporters give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from . import Error
from . import _torch_layers as layers

#: What stays, by axis.
Axes = dict[int, list[int]]

#: Operators that mix channels by a weight, with its input.
WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}


@dataclass
class Cuts:
    """What a plan cuts out of a module."""

    #: Of the weights of layers that mix channels, by the layer's name.
    layers: dict[str, Axes] = field(default_factory=dict)
    #: Of parameters and buffers beside layers, by their names.
    plain: dict[str, Axes] = field(default_factory=dict)


def cuts(plan: dict[str, Any], module: nn.Module) -> Cuts:
    """Finds them; biases and norms follow the channels that these make."""
    found = Cuts()
    modules = dict(module.named_modules())
    tensors = dict(module.state_dict(keep_vars=True))
    for cut in plan.get("tensors", ()):
        weight = WEIGHTS.get(cut["operator"])
        owner = layer_of(cut, cut["name"], modules)
        if owner is not None and weight == cut["input"]:
            _put(found.layers, owner, _axes(cut, f"{owner}.weight", tensors[f"{owner}.weight"].shape))
        elif weight == cut["input"]:
            raise _unknown(cut, modules)
        elif cut["name"] in tensors and weight is None and _is_plain(cut["name"], modules):
            _put(found.plain, cut["name"], _axes(cut, cut["name"], tensors[cut["name"]].shape))
    return found


def layer_of(node: dict[str, Any], tensor: str, modules: dict[str, nn.Module]) -> str | None:
    """The layer that mixes channels which a node is of. Where a norm is merged into a convolution, dynamo's exporter
    names the norm, and only the tensor tells the convolution."""
    owner, _, own = tensor.rpartition(".")
    for name in (module_of(node, modules), owner if own == "weight" else None):
        layer = modules.get(name) if name else None
        if isinstance(layer, layers.MIXES):
            if "weight" not in layer._parameters:
                raise Error(layers.parametrized(str(name)))
            return name
    return None


def module_of(node: dict[str, Any], modules: dict[str, nn.Module]) -> str | None:
    """The module that a node is of: dynamo's exporter notes it, and TorchScript's names nodes by it:
    ``/layer1/layer1.0/conv1/Conv`` is of ``layer1.0.conv1``. A part of a sequence repeats the sequence's own name."""
    path = node.get("module")
    if path is None:
        path = last = ""
        for part in node["node"].split("/")[1:-1]:
            if last and part.startswith(f"{last}."):
                path = path[: len(path) - len(last)] + part
            else:
                path = f"{path}.{part}" if path else part
            last = part
    return path if path and path in modules else None


def _axes(cut: dict[str, Any], name: str, shape: Any) -> Axes:
    own = list(shape)
    stored = list(cut["shape"])
    # Exporters store the weights of linear layers in the order of MatMul.
    turned = len(own) == 2 and cut["operator"] in ("MatMul", "Gemm") and cut["name"] != name
    if turned and (cut["operator"] == "MatMul" or stored != own):
        stored.reverse()
        axes = {1 - cut_axis["axis"]: cut_axis["kept"] for cut_axis in cut["axes"]}
    else:
        axes = {cut_axis["axis"]: cut_axis["kept"] for cut_axis in cut["axes"]}
    if stored != own:
        raise Error(
            f"'{name}' of the module has the shape {own}, and the tensor '{cut['name']}' of the plan {cut['shape']}: "
            "give the module that the ONNX file was exported from"
        )
    return axes


def _put(found: dict[str, Axes], name: str, axes: Axes) -> None:
    if found.setdefault(name, axes) != axes:
        raise Error(f"the plan cuts '{name}' differently in two places that use it: exclude one of them")


def _is_plain(name: str, modules: dict[str, nn.Module]) -> bool:
    return layers.size(modules[name.rpartition(".")[0]]) is None


def _unknown(cut: dict[str, Any], modules: dict[str, nn.Module]) -> Error:
    owner = module_of(cut, modules)
    if owner is not None:
        return Error(layers.cannot(owner, modules[owner]))
    return Error(
        f"the plan cuts the weight '{cut['name']}' of the node '{cut['node']}', and the module has no layer of that "
        "name: give the module that the ONNX file was exported from by torch.onnx.export"
    )
