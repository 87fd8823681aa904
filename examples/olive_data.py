"""Calibration data for examples/olive.json: the samples of an .npz file, as Olive's data configurations load them."""

from typing import Any

import numpy as np
from olive.data.registry import Registry
from torch.utils.data import Dataset


class Samples(Dataset):
    def __init__(self, file: str) -> None:
        self.arrays = dict(np.load(file))

    def __len__(self) -> int:
        return min(map(len, self.arrays.values()))

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        # The second part is a label, which calibration does not read.
        return {name: array[index] for name, array in self.arrays.items()}, 0


@Registry.register_dataset()
def npz(file: str, **_: Any) -> Samples:
    return Samples(file)
