"""Calibration data of Python, written to files that the program reads."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def paths(calibration: Any) -> list[str] | None:
    """The files that calibration names; None where it holds data itself."""
    if isinstance(calibration, (str, os.PathLike)):
        return [os.fspath(calibration)]
    if isinstance(calibration, (list, tuple)) and calibration:
        if all(isinstance(item, (str, os.PathLike)) for item in calibration):
            return [os.fspath(item) for item in calibration]
    return None


def write(calibration: Any, names: list[str], folder: Path) -> list[str]:
    """Writes every batch to an .npz file of its own, so that one is in memory at a time."""
    files: list[str] = []
    # A single sample without an axis of samples is one to the program too.
    for batch in _batches(calibration):
        file = folder / f"batch-{len(files):06}.npz"
        # Not numpy.savez, to which an input could not be named "file".
        with zipfile.ZipFile(file, "w") as archive:
            for name, value in _named(batch, names).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, _array(value), allow_pickle=False)
        files.append(str(file))
    if not files:
        raise ValueError("the calibration data hold no sample: give at least one, better hundreds")
    return files


def _batches(calibration: Any) -> Iterator[Any]:
    if isinstance(calibration, Mapping) or hasattr(calibration, "__array__"):
        yield calibration
    # An iterator of tf.data has a get_next() too, which ends in another way.
    elif hasattr(calibration, "get_next") and not isinstance(calibration, Iterator):
        while (batch := calibration.get_next()) is not None:
            yield batch
    elif isinstance(calibration, Iterable) or hasattr(calibration, "__getitem__"):
        yield from calibration
    else:
        raise TypeError(
            "calibration: expected paths, arrays, an iterable of batches or an object with "
            f"get_next(), found {type(calibration).__name__}"
        )


def _named(batch: Any, names: list[str]) -> dict[str, Any]:
    """The model's inputs; the program finds out what is missing."""
    # Inputs in a structure of their own before the labels.
    if isinstance(batch, (list, tuple)) and batch and isinstance(batch[0], (Mapping, tuple)):
        batch = batch[0]
    if isinstance(batch, Mapping):
        known = {name: batch[name] for name in names if name in batch}
        return known or {str(name): value for name, value in batch.items()}
    # What a data loader adds after the inputs, such as labels, is not needed.
    parts = batch if isinstance(batch, (list, tuple)) else [batch]
    return dict(zip(names, parts))


def _array(value: Any) -> np.ndarray[Any, Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)
