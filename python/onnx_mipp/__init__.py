"""Structured pruning of ONNX models that preserves mutual information, without retraining.

    import onnx_mipp

    result = onnx_mipp.prune("in.onnx", loader, macs=0.5)
    print(result)
    result.save("out.onnx")

The options are those of the ``onnx-mipp`` command, and so are the messages of :class:`Error`.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

# ONNX Runtime's packages otherwise keep a record of each process, meant for upload.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from . import _data, _native
from ._native import Error

if TYPE_CHECKING:
    import onnx

__all__ = ["Error", "Result", "inspect", "prune"]

Path_ = str | os.PathLike[str]

_log = logging.getLogger(__name__)


class Result:
    """A pruned model with how it came about."""

    def __init__(self, outcome: _native.Outcome) -> None:
        self._outcome = outcome

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

    def save(self, path: Path_) -> None:
        """Writes the model, aside and then renamed; external data stay external."""
        self._outcome.save(path)

    def __str__(self) -> str:
        return self._outcome.text()


def prune(
    model: Path_ | bytes | onnx.ModelProto,
    calibration: Any = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    ratio: float | None = None,
    mi: float | None = None,
    align: int | None = None,
    min_channels: int | None = None,
    best_effort: bool = False,
    exclude: Iterable[str] = (),
    only: Iterable[str] = (),
    repair: Literal["none", "once", "sequential"] | None = None,
    memory: int | None = None,
    samples: int | None = None,
    batch: int | None = None,
    shape: dict[str, Sequence[int]] | None = None,
    seed: int | None = None,
    stats: Iterable[Path_] = (),
    stats_out: Path_ | None = None,
    plan: Path_ | dict[str, Any] | None = None,
    device: str | None = None,
    threads: int | None = None,
    onnxruntime: Path_ | None = None,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Prunes a model on unlabelled samples.

    ``model`` is a path, the bytes of a file or an ``onnx.ModelProto``. ``calibration`` is a path or
    several, an array of samples, an iterable of batches (dicts by input name, arrays, or tuples whose
    first parts are the inputs in order, so that a torch DataLoader works as it is), or an object with
    onnxruntime's ``get_next()``. Without it, synthetic noise is used, with a warning. The other
    options are those of the command, described in its guide; the budgets are ``macs``, ``params``,
    ``ratio`` and ``mi``, of which one may be given.

    ``progress`` is called with a line for each stage and note. Other threads run meanwhile; Ctrl-C
    stops at the next run of the model.

    Raises :class:`Error` with the command's message.
    """
    single = dict(macs=macs, params=params, ratio=ratio, mi=mi, align=align, min_channels=min_channels,
                  repair=repair, memory=memory, samples=samples, batch=batch, seed=seed,
                  stats_out=stats_out, device=device, threads=threads)
    words = _words(single) + _nodes(exclude, only) + _shapes(shape) + _library(onnxruntime)
    words += [f"--stats={os.fspath(path)}" for path in stats]
    words += ["--best-effort"] if best_effort else []
    source = _source(model)
    with tempfile.TemporaryDirectory(prefix="onnx-mipp-") as folder:
        if isinstance(plan, dict):
            file = Path(folder) / "plan.json"
            file.write_text(json.dumps(plan))
            words.append(f"--plan={file}")
        elif plan is not None:
            words.append(f"--plan={os.fspath(plan)}")
        if calibration is not None:
            paths = _data.paths(calibration)
            if paths is None:
                names = _native.input_names(source)
                paths = [str(_data.write(calibration, names, Path(folder)))]
            words += [f"--calib={path}" for path in paths]
        return Result(_native.prune(source, words, progress or _tell))


def inspect(
    model: Path_ | bytes | onnx.ModelProto,
    *,
    exclude: Iterable[str] = (),
    only: Iterable[str] = (),
    shape: dict[str, Sequence[int]] | None = None,
    device: str | None = None,
    threads: int | None = None,
    onnxruntime: Path_ | None = None,
) -> dict[str, Any]:
    """The groups of channels of a model and what freezes them, as ``onnx-mipp inspect --json``.

    Raises :class:`Error` with the command's message.
    """
    words = _words(dict(device=device, threads=threads)) + _nodes(exclude, only)
    words += _shapes(shape) + _library(onnxruntime)
    found: dict[str, Any] = json.loads(_native.inspect(_source(model), words))
    return found


def _source(model: Any) -> Path_ | bytes:
    if hasattr(model, "SerializeToString"):
        return bytes(model.SerializeToString())
    if isinstance(model, (bytearray, memoryview)):
        return bytes(model)
    if isinstance(model, (str, os.PathLike, bytes)):
        return model
    raise TypeError(f"model: expected a path, bytes or an onnx.ModelProto, found {type(model).__name__}")


def _words(options: dict[str, Any]) -> list[str]:
    given = [(name.replace("_", "-"), value) for name, value in options.items() if value is not None]
    return [f"--{name}={value}" for name, value in given]


def _nodes(exclude: Iterable[str], only: Iterable[str]) -> list[str]:
    for name, patterns in (("exclude", exclude), ("only", only)):
        if isinstance(patterns, str):
            raise TypeError(f"{name}: expected a list of patterns, found the text {patterns!r}")
    return [f"--exclude={glob}" for glob in exclude] + [f"--only={glob}" for glob in only]


def _shapes(shape: dict[str, Sequence[int]] | None) -> list[str]:
    sizes = {name: ",".join(map(str, sizes)) for name, sizes in (shape or {}).items()}
    return [f"--shape={name}={text}" for name, text in sizes.items()]


def _library(onnxruntime: Path_ | None) -> list[str]:
    path = os.fspath(onnxruntime) if onnxruntime is not None else _runtime_library()
    return [] if path is None else [f"--onnxruntime={path}"]


def _runtime_library() -> str | None:
    """The folder with the library of this Python's onnxruntime package, unless the user names another."""
    if os.environ.get("ORT_DYLIB_PATH"):
        return None
    found = importlib.util.find_spec("onnxruntime")
    if found is None or not found.submodule_search_locations:
        return None
    return str(Path(found.submodule_search_locations[0]) / "capi")


def _tell(line: str) -> None:
    if line.startswith("WARNING: "):
        warnings.warn(line.removeprefix("WARNING: "), stacklevel=3)
    else:
        _log.info(line)
