"""What the functions of the package take, as the program wants it."""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import _data, _native
from ._progress import Progress, listening

if TYPE_CHECKING:
    import onnx
    import onnx_ir

StrPath = str | os.PathLike[str]


class Reader(Protocol):
    """What onnxruntime calls a ``CalibrationDataReader``."""

    def get_next(self) -> Any:
        """The next batch by input names, None at the end."""
        ...


if TYPE_CHECKING:
    Model = StrPath | bytes | onnx.ModelProto | onnx_ir.Model
    Calibration = StrPath | Iterable[Any] | Reader | None
    Measure = str | Callable[[Path], float] | None
    Listener = bool | Callable[[str], None] | Progress | None


@contextlib.contextmanager
def taken(given: dict[str, Any]) -> Iterator[tuple[StrPath | bytes, dict[str, Any], Progress]]:
    """The model, the options and who hears of the run, by the arguments of a function. What lies in files
    meanwhile is removed after the run."""
    options = dict(given)
    model = source(options.pop("model"))
    calibration, progress = options.pop("calibration", None), options.pop("progress", None)
    for name in {"exclude", "only", "stats"} & options.keys():
        options[name] = several(options[name])
    for name in {"mean", "std"} & options.keys():
        options[name] = None if options[name] is None else several(options[name])
    options["shape"] = [(name, list(sizes)) for name, sizes in (options["shape"] or {}).items()]
    options["onnxruntime"] = library(options["onnxruntime"])
    plan = options.pop("plan", None)
    if isinstance(plan, dict):
        options["plan"] = json.dumps(plan)
    else:
        options["plan_file"] = plan
    with tempfile.TemporaryDirectory(prefix="onnx-mipp-") as folder, listening(progress) as listener:
        if calibration is not None:
            files = _data.paths(calibration)
            options["in_memory"] = files is None
            if files is None:
                files = _data.write(calibration, _native.input_names(model), Path(folder))
            options["calibration"] = files
        yield model, options, listener


def source(model: Any) -> StrPath | bytes:
    """A model as a path or as the bytes of a file."""
    if isinstance(model, (str, os.PathLike, bytes)):
        return model
    if isinstance(model, (bytearray, memoryview)):
        return bytes(model)
    if "onnx_ir" in sys.modules and isinstance(model, sys.modules["onnx_ir"].Model):
        return _encoded(_proto(model))
    if hasattr(model, "SerializeToString"):
        return _encoded(model)
    raise TypeError(
        f"model: expected a path, bytes, an onnx.ModelProto or an onnx_ir.Model, found {type(model).__name__}"
    )


def _proto(model: onnx_ir.Model) -> onnx.ModelProto:
    """The model with all its tensors inside; the given one keeps those that lie in files where they are."""
    import onnx_ir

    return onnx_ir.to_proto(onnx_ir.external_data.load_to_model(model.clone()))


def _encoded(model: onnx.ModelProto) -> bytes:
    try:
        return bytes(model.SerializeToString())
    except Exception as error:
        raise ValueError(
            f"model: it is not to be had as the bytes of a file ({error}); beyond 2 GiB, save it with external data "
            "and give the path"
        ) from error


def several(value: Any) -> list[Any]:
    """What may be given alone, as a list."""
    return [value] if isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable) else list(value)


def library(given: StrPath | None = None) -> str | None:
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
