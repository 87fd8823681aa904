"""What the functions of the package return."""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import onnx
    import onnx_ir

StrPath = str | os.PathLike[str]


class Outcome(Protocol):
    """What a result consists of."""

    def save(self, path: StrPath) -> None: ...
    def encode(self) -> bytes: ...
    def plan(self) -> str: ...
    def report(self) -> str: ...
    def html(self) -> str: ...
    def text(self) -> str: ...


class _Kept:
    """An outcome that came from another process."""

    def __init__(self, model: bytes, plan: str, report: str, html: str, text: str) -> None:
        self._parts = (model, plan, report, html, text)

    def save(self, path: StrPath) -> None:
        # Aside and then renamed, as the program does it.
        target = Path(path)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".onnx-mipp-", delete=False) as file:
            aside = Path(file.name)
        try:
            aside.write_bytes(self._parts[0])
            os.chmod(aside, 0o666 & ~_umask())
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def encode(self) -> bytes:
        return self._parts[0]

    def plan(self) -> str:
        return self._parts[1]

    def report(self) -> str:
        return self._parts[2]

    def html(self) -> str:
        return self._parts[3]

    def text(self) -> str:
        return self._parts[4]


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def _kept(*parts: Any) -> Result:
    return Result(_Kept(*parts))


def read(text: str) -> dict[str, Any]:
    """What a text of JSON holds."""
    found: dict[str, Any] = json.loads(text)
    return found


def _frame(page: str) -> str:
    """A page in a notebook, with styles of its own."""
    return f'<iframe srcdoc="{html.escape(page, quote=True)}" style="width: 100%; height: 40em; border: 0"></iframe>'


@dataclass(frozen=True)
class Change:
    """A figure of the original and of the other model."""

    before: float
    after: float


@dataclass(frozen=True)
class Timing(Change):
    """Milliseconds of a run, and between which shares of the original's time parts of the measurement lie."""

    low: float
    high: float


@dataclass(frozen=True)
class Divergence:
    """The squared change of the outputs as a share of their variance: its mean, and the upper end of an interval
    of 90 %. None where a figure is not finite."""

    mean: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """How close a model's outputs are to the original's."""

    samples: int
    cosine: float
    relative_error: float
    #: Share of the samples with the same largest entry, and what it is at least, with a confidence of 90 %; None
    #: for models without an output of scores per class.
    top1_agreement: float | None
    top1_agreement_low: float | None
    divergence: Divergence | None


def _comparison(found: dict[str, Any] | None) -> Comparison | None:
    if found is None:
        return None
    moved = found["divergence"]
    return Comparison(**{**found, "divergence": moved and Divergence(**moved)})


class Result:
    """A pruned model with how it came about. It can be pickled, up to 2 GiB, and shows itself as a page in a
    notebook."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __reduce__(self) -> tuple[Callable[..., Result], tuple[Any, ...]]:
        found = self._outcome
        return _kept, (found.encode(), found.plan(), found.report(), found.html(), found.text())

    def _repr_html_(self) -> str:
        return _frame(self.html)

    @property
    def model_bytes(self) -> bytes:
        """The model as the bytes of a file; :class:`Error` beyond 2 GiB, where :meth:`save` helps."""
        return self._outcome.encode()

    @property
    def model(self) -> onnx.ModelProto:
        """The model; needs the ``onnx`` package."""
        import onnx

        return onnx.load_from_string(self._outcome.encode())

    @property
    def ir_model(self) -> onnx_ir.Model:
        """The model; needs the ``onnx-ir`` package."""
        import onnx_ir

        return onnx_ir.from_proto(self.model)

    @property
    def plan(self) -> dict[str, Any]:
        """Which channels stay in every group, as ``--plan-out`` writes it."""
        return read(self._outcome.plan())

    @property
    def report(self) -> dict[str, Any]:
        """Everything that was found out, as ``--report`` writes it."""
        return read(self._outcome.report())

    @property
    def macs(self) -> Change:
        """Multiply-accumulates of a sample."""
        return Change(**self.report["macs"])

    @property
    def parameters(self) -> Change:
        """Elements of the weights."""
        return Change(**self.report["parameters"])

    @property
    def metric(self) -> Change | None:
        """What ``metric`` measured; None without one."""
        found = self.report["metric"]
        return found and Change(**found)

    @property
    def comparison(self) -> Comparison | None:
        """How close the outputs are to the original's; None without data and where nothing was pruned."""
        return _comparison(self.report["comparison"])

    @property
    def html(self) -> str:
        """The report as a page that loads nothing."""
        return self._outcome.html()

    def save(self, path: StrPath) -> None:
        """Writes the model, aside and then renamed; external data stay external."""
        self._outcome.save(path)

    def __str__(self) -> str:
        return self._outcome.text()


@dataclass(frozen=True)
class Sweep:
    """A model at several budgets, in the order of the command. Its text is the command's table; it can be pickled
    as its results can, and shows itself as a page in a notebook."""

    results: tuple[Result, ...]
    #: Everything that was found out, as ``onnx-mipp sweep --json`` but for the paths of the models.
    report: dict[str, Any] = field(repr=False)
    #: The table and a curve as a page that loads nothing.
    html: str = field(repr=False)
    text: str = field(repr=False)

    def _repr_html_(self) -> str:
        return _frame(self.html)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Compared:
    """Two models side by side. Its text is the command's."""

    #: Paths of the models; None for those in memory.
    original: str | None
    other: str | None
    #: Paths of the data; empty without any.
    source: tuple[str, ...]
    device: str
    onnxruntime: str
    #: How close the other's outputs are to the original's; None without data.
    comparison: Comparison | None
    bytes: Change
    latency_ms: Timing
    #: What the user should know, in sentences.
    notes: tuple[str, ...]
    #: All of it as ``onnx-mipp compare --json`` prints it.
    report: dict[str, Any] = field(repr=False)
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


def compared(report: str, text: str) -> Compared:
    """Reads what the program found."""
    found = read(report)
    typed = dict(
        source=tuple(found["source"]),
        comparison=_comparison(found["comparison"]),
        bytes=Change(**found["bytes"]),
        latency_ms=Timing(**found["latency_ms"]),
        notes=tuple(found["notes"]),
    )
    return Compared(**{**found, **typed}, report=found, text=text)


@dataclass(frozen=True)
class Place:
    """An axis of a tensor, with how many positions along it one channel has."""

    tensor: str
    axis: int
    positions: int


@dataclass(frozen=True)
class Group:
    """Channels that leave together."""

    name: str
    channels: int
    #: Shares of the model's MACs in nodes that read or make the channels, and of its parameters in tensors with them.
    macs_share: float
    parameters_share: float
    #: Nodes that make the channels, and nodes that read them through a weight.
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    places: tuple[Place, ...]
    #: Why none may leave; empty where some may.
    frozen: tuple[str, ...]


@dataclass(frozen=True)
class Ungrouped:
    """A layer with weights that makes no channels of a group, and why."""

    name: str
    operator: str
    macs_share: float
    frozen: str


@dataclass(frozen=True)
class Inspection:
    """The groups of channels of a model and what freezes them. Its text is the command's."""

    #: Multiply-accumulates of a sample, elements of the weights, and the share of the MACs that pruning can change.
    macs: float
    parameters: float
    prunable_macs: float
    groups: tuple[Group, ...]
    ungrouped: tuple[Ungrouped, ...]
    #: All of it as ``onnx-mipp inspect --json`` prints it.
    report: dict[str, Any] = field(repr=False)
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


def inspection(report: str, text: str) -> Inspection:
    """Reads what the program found."""
    found = read(report)
    typed = dict(
        groups=tuple(_group(group) for group in found["groups"]),
        ungrouped=tuple(Ungrouped(**layer) for layer in found["ungrouped"]),
    )
    return Inspection(**{**found, **typed}, report=found, text=text)


def _group(found: dict[str, Any]) -> Group:
    lists = {name: tuple(found[name]) for name in ("producers", "consumers", "frozen")}
    return Group(**{**found, **lists, "places": tuple(Place(**place) for place in found["places"])})
