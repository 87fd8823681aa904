"""Calibration data of Python, written to files that the program reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def paths(calibration: Any) -> list[str] | None:
    """The files that calibration names; None where it holds data itself."""
    if isinstance(calibration, (str, os.PathLike)):
        return [os.fspath(calibration)]
    if isinstance(calibration, (list, tuple)) and calibration:
        if all(isinstance(item, (str, os.PathLike)) for item in calibration):
            return [os.fspath(item) for item in calibration]
    return None


def write(calibration: Any, names: list[str], folder: Path) -> Path:
    """Writes all batches to one .npz file, one batch in memory at a time."""
    sinks = {name: _Sink(name, folder / f"{place}.bin") for place, name in enumerate(names)}
    try:
        for batch in _batches(calibration):
            for name, array in _named(batch, names).items():
                sinks[name].add(array)
    finally:
        for sink in sinks.values():
            sink.file.close()
    arrays = {name: sink.array() for name, sink in sinks.items()}
    if any(array is None for array in arrays.values()):
        raise ValueError("the calibration data hold no sample: give at least one, better hundreds")
    target = folder / "calibration.npz"
    np.savez(target, **{name: array for name, array in arrays.items() if array is not None})
    return target


def _batches(calibration: Any) -> Iterator[Any]:
    if isinstance(calibration, np.ndarray) or hasattr(calibration, "detach"):
        yield calibration
    elif isinstance(calibration, Mapping):
        yield calibration
    elif hasattr(calibration, "get_next"):
        while (batch := calibration.get_next()) is not None:
            yield batch
    elif isinstance(calibration, Iterable):
        yield from calibration
    else:
        raise TypeError(
            "calibration: expected paths, arrays, an iterable of batches or an object with "
            f"get_next(), found {type(calibration).__name__}"
        )


def _named(batch: Any, names: list[str]) -> dict[str, np.ndarray]:
    if isinstance(batch, Mapping):
        missing = [name for name in names if name not in batch]
        if missing:
            raise ValueError(
                f"a batch has no array for the model's input '{missing[0]}': found "
                f"{sorted(map(str, batch))}, expected {names}"
            )
        return {name: _array(batch[name]) for name in names}
    # What a data loader adds after the inputs, such as labels, is not needed.
    parts = list(batch) if isinstance(batch, (list, tuple)) else [batch]
    if len(parts) < len(names):
        raise ValueError(
            f"a batch has {len(parts)} arrays, the model has {len(names)} inputs: give dicts with "
            f"the names {names}"
        )
    return {name: _array(part) for name, part in zip(names, parts)}


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


class _Sink:
    """The arrays of one input, laid end to end along the first axis in a file."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.file: BinaryIO = path.open("wb")
        self.dtype: np.dtype[Any] | None = None
        self.shape: tuple[int, ...] = ()
        self.count = 0

    def add(self, array: np.ndarray) -> None:
        if array.ndim == 0:
            raise ValueError(f"input '{self.name}': expected samples along the first axis, found one number")
        if self.dtype is None:
            self.dtype, self.shape = array.dtype, array.shape[1:]
        if (array.dtype, array.shape[1:]) != (self.dtype, self.shape):
            raise ValueError(
                f"input '{self.name}': a batch of {array.dtype} {list(array.shape[1:])} follows "
                f"one of {self.dtype} {list(self.shape)}; bring all samples to one type and shape"
            )
        self.file.write(np.ascontiguousarray(array).data)
        self.count += array.shape[0]

    def array(self) -> np.ndarray | None:
        if self.dtype is None or self.count == 0:
            return None
        return np.memmap(self.path, self.dtype, "r", shape=(self.count, *self.shape))
