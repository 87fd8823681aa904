"""Structured pruning of ONNX models that preserves mutual information, without retraining.

    import onnx_mipp

    result = onnx_mipp.prune("in.onnx", loader, macs=0.5)
    print(result)
    result.save("out.onnx")

The options are those of the ``onnx-mipp`` command, and so are the messages of :class:`Error`.
"""

from __future__ import annotations

import html
import importlib.machinery
import importlib.metadata
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

# ONNX Runtime's packages otherwise keep a record of each process, meant for upload.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from . import _data, _native
from ._native import Error

if TYPE_CHECKING:
    import onnx

__all__ = ["Error", "Result", "__version__", "inspect", "prune"]

__version__ = importlib.metadata.version("onnx-mipp")

StrPath = str | os.PathLike[str]

_log = logging.getLogger(__name__)


class Reader(Protocol):
    """What onnxruntime calls a ``CalibrationDataReader``."""

    def get_next(self) -> Any:
        """The next batch by input names, None at the end."""
        ...


class _Outcome(Protocol):
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


class Result:
    """A pruned model with how it came about. It can be pickled, up to 2 GiB, and shows itself as a page in a
    notebook."""

    def __init__(self, outcome: _Outcome) -> None:
        self._outcome = outcome

    def __reduce__(self) -> tuple[Callable[..., Result], tuple[Any, ...]]:
        found = self._outcome
        return _kept, (found.encode(), found.plan(), found.report(), found.html(), found.text())

    def _repr_html_(self) -> str:
        page = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'

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
    def plan(self) -> dict[str, Any]:
        """Which channels stay in every group, as ``--plan-out`` writes it."""
        plan: dict[str, Any] = json.loads(self._outcome.plan())
        return plan

    @property
    def report(self) -> dict[str, Any]:
        """Everything that was found out, as ``--report`` writes it."""
        report: dict[str, Any] = json.loads(self._outcome.report())
        return report

    @property
    def html(self) -> str:
        """The report as a page that loads nothing."""
        return self._outcome.html()

    def save(self, path: StrPath) -> None:
        """Writes the model, aside and then renamed; external data stay external."""
        self._outcome.save(path)

    def __str__(self) -> str:
        return self._outcome.text()


def prune(
    model: StrPath | bytes | onnx.ModelProto,
    calibration: StrPath | Iterable[Any] | Reader | None = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    latency: float | str | None = None,
    latency_command: str | Callable[[Path], float] | None = None,
    ratio: float | None = None,
    mi: float | None = None,
    agreement: float | None = None,
    max_change: float | None = None,
    max_drop: float | None = None,
    metric: str | Callable[[Path], float] | None = None,
    metric_lower: bool = False,
    metric_timeout: int | None = None,
    align: int | None = None,
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
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Prunes a model on unlabelled samples.

    ``model`` is a path, the bytes of a file or an ``onnx.ModelProto``. ``calibration`` is a path or
    several, an array of samples, an iterable of batches (dicts by input name, arrays, or tuples whose
    first parts are the inputs in order, so that a torch DataLoader works as it is), or an object with
    onnxruntime's ``get_next()``. Without it, inputs are made up, with a warning. The other
    options are those of the command, described in its guide. Budgets bound what the model costs (``macs``,
    ``params``, ``latency``) or what it must be worth (``agreement``, ``max_change``, ``max_drop``); all that are
    given are kept, ``ratio`` and ``mi`` go alone. ``metric`` is a function of the path of a model's file that
    returns a number, larger for better models unless ``metric_lower``, or a command as the program has it;
    ``latency_command`` is one that returns the milliseconds of a run, and ``latency`` a fraction or "12ms".
    ``plan`` is a file or :attr:`Result.plan`.
    ``memory_limit`` refuses what asks for more; only the command also has the system hold its process to it.

    ``progress`` is called with a line for each stage and note. Other threads run meanwhile; Ctrl-C
    stops at the next run of the model.

    Raises :class:`Error` with the command's message.
    """
    options = dict(
        macs=macs, params=params, latency=latency, latency_command=latency_command, ratio=ratio, mi=mi,
        agreement=agreement, max_change=max_change, max_drop=max_drop, metric=metric, metric_lower=metric_lower,
        metric_timeout=metric_timeout, align=align, min_channels=min_channels, best_effort=best_effort,
        estimator=estimator, no_combine=no_combine, exclude=_several(exclude), only=_several(only), heads=heads,
        prune_normalized=prune_normalized, repair=repair, memory=memory, samples=samples, batch=batch,
        shape=_shapes(shape), mean=_numbers(mean), std=_numbers(std), scale=scale, resize=resize, crop=crop,
        layout=layout, color=color, exif=exif, seed=seed, stats=_several(stats), stats_out=stats_out,
        device=device, threads=threads, memory_limit=memory_limit, onnxruntime=_library(onnxruntime),
    )
    if isinstance(plan, dict):
        options["plan"] = json.dumps(plan)
    else:
        options["plan_file"] = plan
    source = _source(model)
    with tempfile.TemporaryDirectory(prefix="onnx-mipp-") as folder:
        if calibration is not None:
            files = _data.paths(calibration)
            options["in_memory"] = files is None
            if files is None:
                files = _data.write(calibration, _native.input_names(source), Path(folder))
            options["calibration"] = files
        return Result(_native.prune(source, options, progress or _tell))


def inspect(
    model: StrPath | bytes | onnx.ModelProto,
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
) -> dict[str, Any]:
    """The groups of channels of a model and what freezes them, as ``onnx-mipp inspect --json``.

    Raises :class:`Error` with the command's message.
    """
    options = dict(
        exclude=_several(exclude), only=_several(only), heads=heads, prune_normalized=prune_normalized,
        shape=_shapes(shape), device=device, threads=threads, memory_limit=memory_limit,
        onnxruntime=_library(onnxruntime),
    )
    found: dict[str, Any] = json.loads(_native.inspect(_source(model), options))
    return found


def _source(model: Any) -> StrPath | bytes:
    if hasattr(model, "SerializeToString"):
        return bytes(model.SerializeToString())
    if isinstance(model, (bytearray, memoryview)):
        return bytes(model)
    if isinstance(model, (str, os.PathLike, bytes)):
        return model
    raise TypeError(f"model: expected a path, bytes or an onnx.ModelProto, found {type(model).__name__}")


def _several(value: Any) -> list[Any]:
    """What may be given alone, as a list."""
    return [value] if isinstance(value, (str, os.PathLike)) else list(value)


def _shapes(shape: dict[str, Sequence[int]] | None) -> list[tuple[str, list[int]]]:
    return [(name, list(sizes)) for name, sizes in (shape or {}).items()]


def _numbers(values: float | Sequence[float] | None) -> list[float] | None:
    if isinstance(values, Iterable):
        return list(values)
    return None if values is None else [values]


def _library(given: StrPath | None = None) -> str | None:
    """The library to use, by default that of this Python's onnxruntime package; None leaves the
    search to the program."""
    if given is not None:
        return os.fspath(given)
    if os.environ.get("ORT_DYLIB_PATH"):
        return None
    if "onnxruntime" in sys.modules:
        found = sys.modules["onnxruntime"].__spec__
    else:
        # Not the working folder, which Python searches first for `-m` and `-c` and which may be anybody's,
        # unless this package itself is there.
        places = [place for place in sys.path if os.path.isabs(place) and not _is_here(place)]
        own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        found = importlib.machinery.PathFinder.find_spec("onnxruntime", [own, *places])
    if found is None:
        return None
    folders = [Path(folder) / "capi" for folder in found.submodule_search_locations or []]
    return next((str(folder) for folder in folders if any(folder.glob("*onnxruntime.*"))), None)


def _is_here(place: str) -> bool:
    try:
        return os.path.samefile(place, os.curdir)
    except OSError:
        return True


def _tell(line: str) -> None:
    if line.startswith("WARNING: "):
        warnings.warn(line.removeprefix("WARNING: "), stacklevel=3)
    else:
        _log.info(line)
