"""A plan cut into the PyTorch model that the ONNX file was exported from, to train it on.

    import onnx_mipp.torch

    smaller = onnx_mipp.torch.apply(result.plan, module)
"""

from __future__ import annotations

import copy
import functools
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from . import Error, Result
from . import _torch_layers as layers
from . import _torch_names as names
from . import _torch_weights as values

if TYPE_CHECKING:
    import onnx

__all__ = ["apply"]

#: How far outputs that are computed alike may be apart, as a share of the largest.
TOLERANCE = 1e-4
#: The same of the module and ONNX Runtime.
REPAIRED = 1e-3

_FIXED = (
    "a forward divides or places channels by numbers that the plan changes. Keep the layers that make these channels "
    "whole when pruning (exclude=)"
)

_OTHER = (
    "give the model that was pruned by this plan, or leave weights= out and train from slices of the module's own"
)


def apply(
    plan: dict[str, Any] | str | os.PathLike[str] | Result,
    module: nn.Module,
    inputs: Any = None,
    *,
    weights: Result | str | os.PathLike[str] | bytes | onnx.ModelProto | None = None,
) -> nn.Module:
    """A copy of ``module`` without the channels that leave by ``plan``; ``module`` stays as it is.

    ``plan`` is :attr:`onnx_mipp.Result.plan`, the path of a file of ``--plan-out``, or a result. ``module`` is the
    one that the pruned ONNX file was exported from. It is run once in evaluation mode to follow the channels, and
    the copy is run to check it: on ``inputs`` (a tensor, a tuple, or a dict by argument) or, without them, on
    made-up ones of the shapes that the plan notes.

    The copy has slices of the module's weights. With ``weights``, a pruned ONNX model or the result that holds
    it, it has that model's values instead, which the repair changed, and its outputs are compared with that
    model's.

    Raises :class:`onnx_mipp.Error` where the module is another one or cannot follow the plan.
    """
    read = _read(plan)
    if weights is None and any(group.get("combined") for group in read["groups"]):
        raise Error(
            "the plan keeps combinations of channels, which slices of the module's weights are not: give the pruned "
            "model as weights=, or prune with no_combine=True"
        )
    arguments = _arguments(read, inputs, module)
    trace = _Trace(module, names.cuts(read, module))
    expected = trace.follow(arguments)
    trace.check(arguments, expected)
    if weights is not None:
        model = values.load(weights)
        values.take(model, trace.smaller, trace.merged)
        found = _run(trace.smaller, arguments, "the narrowed module", _OTHER)
        found = [value.cpu() for value in found if isinstance(value, Tensor)]
        if not alike(found, values.outputs(model, arguments), REPAIRED):
            raise Error(f"with the values of weights= the narrowed module gives other outputs than that model: {_OTHER}")
    for own, original in zip(trace.smaller.modules(), module.modules()):
        own.training = original.training
    return trace.smaller


def _read(plan: Any) -> dict[str, Any]:
    if isinstance(plan, Result):
        plan = plan.plan
    if isinstance(plan, (str, os.PathLike)):
        plan = json.loads(Path(plan).read_text(encoding="utf-8"))
    if not isinstance(plan, dict) or "groups" not in plan:
        raise Error("expected a plan, as Result.plan and --plan-out give it: a dict with the key 'groups'")
    is_cut = any(len(group["kept"]) < group["channels"] for group in plan["groups"])
    if is_cut and not plan.get("tensors"):
        raise Error(
            "the plan does not say which tensors it cuts (no 'tensors'): run onnx-mipp with it as --plan, and take "
            "what --plan-out writes"
        )
    return plan


def _arguments(plan: dict[str, Any], inputs: Any, module: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of the module's forward."""
    if isinstance(inputs, dict):
        return (), inputs
    if inputs is not None:
        return (tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)), {}
    first = next(iter([*module.parameters(), *module.buffers()]), torch.empty(0))
    random = torch.Generator().manual_seed(0)
    made = []
    for wanted in plan.get("inputs", ()):
        dtype = getattr(torch, wanted["dtype"], None)
        if not isinstance(dtype, torch.dtype):
            raise Error(f"inputs of {wanted['dtype']} cannot be made up ('{wanted['name']}'): give inputs=")
        if dtype.is_floating_point:
            value = torch.randn(wanted["shape"], generator=random).to(dtype)
        else:
            # A token that every vocabulary has, a mask that hides nothing.
            value = torch.ones(wanted["shape"], dtype=dtype)
        made.append(value.to(first.device))
    return tuple(made), {}


class _Trace:
    """Runs a module with channels that leave as NaN. A layer that mixes channels is run without them, and what it
    makes gets NaN where the plan takes channels out; whatever lies between hands NaN on as it hands on channels."""

    def __init__(self, module: nn.Module, cuts: names.Cuts) -> None:
        self.cuts = cuts
        self.dense = copy.deepcopy(module).eval()
        self.smaller = copy.deepcopy(module).eval()
        #: Convolutions and the norms that read them directly, which exporters merge.
        self.merged: dict[str, str] = {}
        self._narrowed: dict[str, layers.Narrowed] = {}
        self._tied: dict[int, tuple[Tensor, nn.Parameter, names.Axes]] = {}
        self._made: tuple[str, Tensor] | None = None

    def follow(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Any]:
        """Narrows the layers of the smaller module and returns what it has to give."""
        for name, layer in self.dense.named_modules():
            if isinstance(layer, layers.WHOLE):
                setattr(layer, "forward", functools.partial(self._whole, name, layer.forward))
            elif layers.size(layer) is not None:
                setattr(layer, "forward", functools.partial(self._layer, name))
        self._cut_plain()
        expected = _run(self.dense, arguments, "the module", "give inputs=, an example of what its forward takes")
        if any(_is_float(value) and value.isnan().any() for value in expected):
            raise Error("channels that leave by the plan reach the outputs of the module: is it the one of the plan?")
        self._all_found()
        return expected

    def check(self, arguments: tuple[tuple[Any, ...], dict[str, Any]], expected: list[Any]) -> None:
        """Whether the smaller module, with its own forward, gives that."""
        found = _run(self.smaller, arguments, "the narrowed module", _FIXED)
        if not alike(found, expected):
            raise Error(f"the narrowed module gives other outputs than the module without the channels: {_FIXED}")

    def _layer(self, name: str, value: Tensor, *others: Any, **named: Any) -> Any:
        layer = self.smaller.get_submodule(name)
        narrowed = self._narrowed.get(name)
        axis, kept = _left(name, layer, value, layers.size(self.dense.get_submodule(name)))
        if narrowed is None:
            narrowed = layers.narrow(name, layer, kept, self.cuts.layers.get(name, {}), self._replace)
            self._narrowed[name] = narrowed
        elif narrowed.read != kept:
            raise Error(f"'{name}' is run several times, on channels that the plan cuts differently")
        if self._made is not None and self._made[1] is value and isinstance(layer, nn.modules.batchnorm._BatchNorm):
            self.merged[self._made[0]] = name
        small = value if kept is None else value.index_select(axis, _index(kept, value))
        made = layer(small, *others, **named)
        if narrowed.made is not None:
            axis = axis if kept is not None else made.dim() + layers.axis(layer)
            shape = [*made.shape]
            shape[axis] = narrowed.width
            made = made.new_full(shape, float("nan")).index_copy(axis, _index(narrowed.made, made), made)
        self._made = (name, made)
        return made

    def _whole(self, name: str, forward: Any, *others: Any, **named: Any) -> Any:
        values = pytree.tree_leaves((others, named))
        if any(_is_float(value) and value.isnan().any() for value in values):
            raise Error(layers.cannot(name, self.dense.get_submodule(name)))
        return forward(*others, **named)

    def _replace(self, layer: nn.Module, tensor: str, axes: names.Axes) -> None:
        """Cuts a parameter or buffer; one that layers share stays shared."""
        old = getattr(layer, tensor)
        if old is None or not axes:
            return
        known = self._tied.get(id(old))
        if known is not None and known[2] != axes:
            raise Error(f"layers share a '{tensor}' that the plan cuts differently for each: exclude them")
        if known is not None:
            setattr(layer, tensor, known[1])
            return
        new = old.detach()
        for axis, kept in axes.items():
            new = new.index_select(axis, _index(kept, new))
        new = new.clone()
        if tensor in layer._parameters:
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        setattr(layer, tensor, new)
        self._tied[id(old)] = (old, new, axes)

    def _cut_plain(self) -> None:
        """Parameters that no layer of a known kind has, such as scales and tokens."""
        for name, axes in self.cuts.plain.items():
            owner, _, tensor = name.rpartition(".")
            dense = getattr(self.dense.get_submodule(owner), tensor)
            for axis, kept in axes.items():
                left = torch.ones(dense.shape[axis], dtype=torch.bool, device=dense.device)
                left[_index(kept, dense)] = False
                dense.data.index_fill_(axis, left.nonzero().flatten(), float("nan"))
            self._replace(self.smaller.get_submodule(owner), tensor, axes)

    def _all_found(self) -> None:
        missing = [name for name in self.cuts.layers if name not in self._narrowed]
        if missing:
            raise Error(f"the plan cuts '{missing[0]}', which the forward of the module does not call as a layer")
        inside = [name for name, layer in self.dense.named_modules() if isinstance(layer, layers.WHOLE)]
        idle = [
            name
            for name, layer in self.dense.named_modules()
            if layers.size(layer) is not None
            and name not in self._narrowed
            and not any(name.startswith(f"{whole}.") for whole in inside)
        ]
        if idle and self.cuts.layers:
            warnings.warn(
                f"not run in evaluation mode and left whole: {', '.join(idle)}. Where training runs them, their "
                "widths may not fit",
                stacklevel=4,
            )


def _left(name: str, layer: nn.Module, value: Tensor, size: int | None) -> tuple[int, list[int] | None]:
    """The axis along which channels left, and those that are left of it; None where all are."""
    gone = value.isnan() if size is not None and _is_float(value) else None
    if gone is None or not gone.any():
        return 0, None
    for axis in range(value.dim()):
        if value.shape[axis] != size:
            continue
        lines = gone.movedim(axis, 0).reshape(size, -1)
        whole = lines.all(1)
        if bool((whole == lines.any(1)).all()) and not whole.all():
            return axis, (~whole).nonzero().flatten().tolist()
    raise Error(
        f"what {type(layer).__name__} '{name}' reads mixes channels that leave with channels that stay: an operation "
        "before it cannot lose them. Keep them whole (exclude=)"
    )


def _run(module: nn.Module, arguments: tuple[tuple[Any, ...], dict[str, Any]], what: str, wanted: str) -> list[Any]:
    """The outputs in one list; an error names the module inside which it came about, and says what is ``wanted``."""
    entered: list[str] = []
    hooks = []
    for name, inner in module.named_modules():
        hooks.append(inner.register_forward_pre_hook(lambda *_, name=name: entered.append(name)))
        hooks.append(inner.register_forward_hook(lambda *_: entered.__delitem__(-1)))
    try:
        with torch.no_grad(), _no_fast_path():
            made = module(*arguments[0], **arguments[1])
    except Error:
        raise
    except Exception as error:
        place = f" (in '{entered[-1]}')" if entered and entered[-1] else ""
        raise Error(f"{what} cannot be run{place}: {wanted}. {type(error).__name__}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return pytree.tree_leaves(made)


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Transformer layers else read the weights of their parts without calling them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def alike(found: Sequence[Any], expected: Sequence[Any], tolerance: float = TOLERANCE) -> bool:
    """Whether outputs are the same but for rounding."""
    return len(found) == len(expected) and all(map(functools.partial(_alike, tolerance), found, expected))


def _alike(tolerance: float, found: Any, expected: Any) -> bool:
    if not _is_float(expected):
        return not isinstance(expected, Tensor) or bool(torch.equal(found, expected))
    if found.shape != expected.shape:
        return False
    most = expected[expected.isfinite()].abs().max() if expected.isfinite().any() else 0.0
    return bool(torch.allclose(found, expected, rtol=tolerance, atol=float(tolerance * most)))


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _index(kept: list[int], beside: Tensor) -> Tensor:
    return torch.tensor(kept, device=beside.device)
