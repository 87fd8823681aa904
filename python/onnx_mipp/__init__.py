"""Structured pruning of ONNX models that preserves mutual information, without retraining.

    import onnx_mipp

    result = onnx_mipp.prune("in.onnx", loader, macs=0.5)
    print(result)
    result.save("out.onnx")

The options are those of the ``onnx-mipp`` command, and so are the messages of :class:`Error`.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

# ONNX Runtime's packages otherwise keep a record of each process, meant for upload.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from . import _call, _native, _results
from ._native import Error
from ._progress import Progress
from ._results import Compared, Comparison, Inspection, Result, StrPath, Sweep

if TYPE_CHECKING:
    from ._call import Calibration, Listener, Measure, Model

__all__ = [
    "Compared", "Comparison", "Error", "Inspection", "Progress", "Result", "Sweep", "__version__", "compare", "inspect",
    "prune", "sweep",
]

__version__ = importlib.metadata.version("onnx-mipp")


def prune(
    model: Model,
    calibration: Calibration = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    size: float | str | None = None,
    latency: float | str | None = None,
    latency_command: Measure = None,
    profile: StrPath | None = None,
    ratio: float | None = None,
    mi: float | None = None,
    agreement: float | None = None,
    max_change: float | None = None,
    max_drop: float | None = None,
    metric: Measure = None,
    metric_lower: bool = False,
    metric_timeout: int | None = None,
    align: int | None = None,
    target: str | None = None,
    min_channels: int | None = None,
    best_effort: bool = False,
    estimator: Literal["gaussian", "copula"] | None = None,
    no_combine: bool = False,
    exclude: str | Iterable[str] = (),
    only: str | Iterable[str] = (),
    heads: Literal["best", "whole", "inside"] | None = None,
    prune_normalized: bool = False,
    repair: Literal["none", "once", "sequential", "tuned"] | None = None,
    memory: int | None = None,
    samples: int | None = None,
    batch: int | None = None,
    shape: dict[str, Sequence[int]] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    resize: int | None = None,
    crop: int | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    color: Literal["rgb", "bgr", "gray"] | None = None,
    exif: Literal["ignore", "apply"] | None = None,
    seed: int | None = None,
    stats: StrPath | Iterable[StrPath] = (),
    stats_out: StrPath | None = None,
    plan: StrPath | dict[str, Any] | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory_limit: int | None = None,
    onnxruntime: StrPath | None = None,
    progress: Listener = None,
) -> Result:
    """Prunes a model on unlabelled samples.

    ``model`` is a path, the bytes of a file, an ``onnx.ModelProto`` or an ``onnx_ir.Model``. ``calibration`` is
    a path or several, an array of samples, an iterable of batches or of single samples (dicts by input name,
    arrays, or tuples whose first parts are the inputs in order, so that a torch DataLoader, a ``datasets.Dataset``
    and a ``tf.data.Dataset`` work as they are), or an object with onnxruntime's ``get_next()``. Without it, inputs
    are made up, with a warning. The other options are those of the command, described in its guide. Budgets bound
    what the model costs (``macs``, ``params``, ``size``, ``latency``) or what it must be worth (``agreement``,
    ``max_change``, ``max_drop``); all that are given are kept, ``ratio`` and ``mi`` go alone. ``size`` is a fraction
    of the file or "3.5MB", ``latency`` a fraction or "12ms". ``metric`` is a function of the path of a model's file
    that returns a number, larger for better models unless ``metric_lower``, or a command as the program has it;
    ``latency_command`` is one that returns the milliseconds of a run, and ``profile`` a file in which a runtime
    wrote where they go.
    ``plan`` is a file or :attr:`Result.plan`.
    ``memory_limit`` refuses what asks for more; only the command also has the system hold its process to it.

    ``progress`` is True for bars of tqdm, a function that gets a line for each stage and note, or a
    :class:`Progress`. Other threads run meanwhile; Ctrl-C stops at the next run of the model.

    Raises :class:`Error` with the command's message.
    """
    with _call.taken(locals()) as (source, options, listener):
        return Result(_native.prune(source, options, listener))


def sweep(
    model: Model,
    calibration: Calibration = None,
    *,
    macs: float | Sequence[float] = (),
    params: float | Sequence[float] = (),
    size: float | str | Sequence[float | str] = (),
    latency: float | str | Sequence[float | str] = (),
    latency_command: Measure = None,
    profile: StrPath | None = None,
    ratio: float | Sequence[float] = (),
    mi: float | Sequence[float] = (),
    metric: Measure = None,
    metric_lower: bool = False,
    metric_timeout: int | None = None,
    align: int | None = None,
    target: str | None = None,
    min_channels: int | None = None,
    best_effort: bool = False,
    estimator: Literal["gaussian", "copula"] | None = None,
    no_combine: bool = False,
    exclude: str | Iterable[str] = (),
    only: str | Iterable[str] = (),
    heads: Literal["best", "whole", "inside"] | None = None,
    prune_normalized: bool = False,
    repair: Literal["none", "once", "sequential", "tuned"] | None = None,
    memory: int | None = None,
    samples: int | None = None,
    batch: int | None = None,
    shape: dict[str, Sequence[int]] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    resize: int | None = None,
    crop: int | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    color: Literal["rgb", "bgr", "gray"] | None = None,
    exif: Literal["ignore", "apply"] | None = None,
    seed: int | None = None,
    stats: StrPath | Iterable[StrPath] = (),
    stats_out: StrPath | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory_limit: int | None = None,
    onnxruntime: StrPath | None = None,
    progress: Listener = None,
) -> Sweep:
    """Prunes a model to several budgets, calibrating once: ``sweep(model, data, macs=[0.75, 0.5])``.

    At least one of ``macs``, ``params``, ``size``, ``latency``, ``ratio`` and ``mi`` is a number or several, of which
    each is a model; the repair is by default that in one pass. The other options are those of :func:`prune`.

    Raises :class:`Error` with the command's message.
    """
    given = locals()
    budgets = {name: _call.several(given.pop(name)) for name in ("macs", "params", "size", "latency", "ratio", "mi")}
    with _call.taken(given) as (source, options, listener):
        outcomes, report, page, text = _native.sweep(source, budgets, options, listener)
    return Sweep(tuple(map(Result, outcomes)), _results.read(report), page, text)


def compare(
    original: Model,
    other: Model,
    calibration: Calibration = None,
    *,
    samples: int | None = None,
    batch: int | None = None,
    shape: dict[str, Sequence[int]] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    resize: int | None = None,
    crop: int | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    color: Literal["rgb", "bgr", "gray"] | None = None,
    exif: Literal["ignore", "apply"] | None = None,
    seed: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory_limit: int | None = None,
    onnxruntime: StrPath | None = None,
    progress: Listener = None,
) -> Compared:
    """Runs two models on the same data: how close their outputs are, sizes and latency.

    The models and the data are what :func:`prune` takes, and so are the options.

    Raises :class:`Error` with the command's message.
    """
    given = locals()
    second = _call.source(given.pop("other"))
    given["model"] = given.pop("original")
    with _call.taken(given) as (first, options, listener):
        return _results.compared(*_native.compare(first, second, options, listener))


def inspect(
    model: Model,
    *,
    exclude: str | Iterable[str] = (),
    only: str | Iterable[str] = (),
    heads: Literal["best", "whole", "inside"] | None = None,
    prune_normalized: bool = False,
    shape: dict[str, Sequence[int]] | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory_limit: int | None = None,
    onnxruntime: StrPath | None = None,
) -> Inspection:
    """The groups of channels of a model and what freezes them.

    Raises :class:`Error` with the command's message.
    """
    with _call.taken(locals()) as (source, options, _):
        return _results.inspection(*_native.inspect(source, options))
