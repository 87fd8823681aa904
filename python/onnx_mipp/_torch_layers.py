"""How layers of PyTorch lose channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from . import Error

#: Layers that mix channels by a weight.
MIXES = (_ConvNd, nn.Linear, nn.Embedding)
#: Norms and the like, which treat channels one by one, or all that are left.
_FOLLOW = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU)
#: Layers whose parts have sizes that depend on each other.
WHOLE = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.Bilinear, nn.EmbeddingBag)

#: Cuts a parameter or buffer of a layer along its axes.
Replace = Callable[[nn.Module, str, dict[int, list[int]]], None]


@dataclass(frozen=True)
class Narrowed:
    """What is left of a layer's channels; None where all are."""

    #: Of what it reads.
    read: list[int] | None
    #: Of what it makes.
    made: list[int] | None
    #: How many channels it made before.
    width: int


def size(layer: nn.Module) -> int | None:
    """How many channels a layer of a known kind reads, 0 for those that read none; None for other modules."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features
    if isinstance(layer, nn.Embedding):
        return 0
    if isinstance(layer, _NormBase):
        return layer.num_features
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
        # Norms over several axes are over positions too.
        return layer.normalized_shape[0] if len(layer.normalized_shape) == 1 else None
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters if layer.num_parameters > 1 else None
    return None


def axis(layer: nn.Module) -> int:
    """The axis of the channels that a layer makes, from the end."""
    return -1 - (len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0)


def narrow(
    name: str, layer: nn.Module, read: list[int] | None, cut: dict[int, list[int]], replace: Replace
) -> Narrowed:
    """Cuts a layer that reads the channels ``read``; ``cut`` is what stays of its weight."""
    if isinstance(layer, _ConvNd):
        return _convolution(name, layer, read, cut, replace)
    if isinstance(layer, nn.Linear):
        _same(name, read, cut.get(1))
        narrowed = Narrowed(read, cut.get(0), layer.out_features)
        replace(layer, "weight", cut)
        replace(layer, "bias", _along(0, cut.get(0)))
        layer.out_features, layer.in_features = layer.weight.shape
        return narrowed
    if isinstance(layer, nn.Embedding):
        if 0 in cut:
            raise Error(cannot(name, layer))
        narrowed = Narrowed(None, cut.get(1), layer.embedding_dim)
        replace(layer, "weight", cut)
        layer.embedding_dim = layer.weight.shape[1]
        return narrowed
    return _follow(name, layer, read, replace)


def _follow(name: str, layer: nn.Module, read: list[int] | None, replace: Replace) -> Narrowed:
    width = cast(int, size(layer))
    if read is None:
        return Narrowed(None, None, width)
    if isinstance(layer, nn.GroupNorm):
        left = _groups(name, layer, read, width // layer.num_groups)
        layer.num_groups, layer.num_channels = len(left), len(read)
    elif isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
        layer.normalized_shape = (len(read),)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(read)
    else:
        cast(Any, layer).num_features = len(read)
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        if getattr(layer, tensor, None) is not None:
            replace(layer, tensor, {0: read})
    return Narrowed(read, read, width)


def _convolution(
    name: str, layer: _ConvNd, read: list[int] | None, cut: dict[int, list[int]], replace: Replace
) -> Narrowed:
    turned = isinstance(layer, _ConvTransposeNd)
    inputs, outputs = layer.in_channels, layer.out_channels
    if layer.groups == 1:
        along_in, along_out = (0, 1) if turned else (1, 0)
        _same(name, read, cut.get(along_in))
        made = cut.get(along_out)
    else:
        made = _grouped(name, layer, read, cut)
    replace(layer, "weight", cut)
    replace(layer, "bias", _along(0, made))
    layer.in_channels = inputs if read is None else len(read)
    layer.out_channels = outputs if made is None else len(made)
    # The axis of the weight that has the channels of one group only.
    layer.groups = (layer.out_channels if turned else layer.in_channels) // layer.weight.shape[1]
    return Narrowed(read, made, outputs)


def _grouped(name: str, layer: _ConvNd, read: list[int] | None, cut: dict[int, list[int]]) -> list[int] | None:
    """What a convolution of several groups makes."""
    per_input, per_output = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    whole = list(range(layer.in_channels)) if read is None else read
    groups = _groups(name, layer, whole, per_input)
    if isinstance(layer, _ConvTransposeNd):
        _same(name, read, cut.get(0))
        inner = cut.get(1, list(range(per_output)))
        made = [group * per_output + output for group in groups for output in inner]
    else:
        made = cut.get(0, list(range(layer.out_channels)))
        places = [group * per_input + place for group in groups for place in cut.get(1, range(per_input))]
        _same(name, whole, places)
        if _groups(name, layer, made, per_output) != groups:
            raise Error(f"'{name}': the plan takes other groups out of what it reads than out of what it makes")
    return None if len(made) == layer.out_channels else made


def _groups(name: str, layer: nn.Module, kept: list[int], per_group: int) -> list[int]:
    """The groups of which channels are left, equally many of each."""
    counts: dict[int, int] = {}
    for channel in kept:
        counts[channel // per_group] = counts.get(channel // per_group, 0) + 1
    if len(set(counts.values())) != 1:
        raise Error(f"{type(layer).__name__} '{name}' would keep unequal numbers of channels in its groups")
    return list(counts)


def _same(name: str, read: list[int] | None, planned: list[int] | None) -> None:
    if read != planned:
        told = ["all" if kept is None else f"{len(kept)}" for kept in (planned, read)]
        raise Error(
            f"by the plan '{name}' keeps {told[0]} of the channels that it reads, and {told[1]} (or others) get there "
            "in the module: give the module that the ONNX file was exported from"
        )


def _along(axis: int, kept: list[int] | None) -> dict[int, list[int]]:
    return {} if kept is None else {axis: kept}


def cannot(name: str, layer: nn.Module) -> str:
    """Why a module cannot follow."""
    return (
        f"the plan takes channels out of {type(layer).__name__} '{name}', which cannot be narrowed: expected Conv, "
        "ConvTranspose, Linear, Embedding, BatchNorm, InstanceNorm, GroupNorm, LayerNorm, RMSNorm or PReLU. Keep it "
        "whole when pruning, by exclude= and a pattern of its nodes' names"
    )


def parametrized(name: str) -> str:
    """That a weight is no parameter."""
    return (
        f"the weight of '{name}' is computed from other parameters (weight norm, spectral norm, a mask): take the "
        "parametrization off first"
    )
