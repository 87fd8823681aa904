"""Calibration data as the real packages give them: the same models as from the same arrays."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import onnx
import onnx_mipp
import pytest
import tensorflow as tf
import torch
from onnx import helper, numpy_helper
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "fixtures/resnet_bn_torchscript.onnx"
FEW = dict(ratio=0.5, repair="once", threads=1)
COUNT = 20


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.load(ROOT / "fixtures/calib.npz")["input"][:COUNT]


@pytest.fixture(scope="module")
def expected(images: np.ndarray) -> bytes:
    return onnx_mipp.prune(MODEL, images, **FEW).model_bytes


class Pairs(Dataset):
    """Single samples with labels."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.images[place]), place % 10


class Stream(IterableDataset):
    """The same without a length, by the names of the inputs."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __iter__(self):
        return ({"input": torch.from_numpy(image), "label": 3} for image in self.images)


def test_torch(images, expected):
    tensor = torch.from_numpy(images)
    kinds = {
        "a loader of tensors": DataLoader(TensorDataset(tensor), batch_size=8),
        "a loader with labels": DataLoader(Pairs(images), batch_size=8),
        "a loader with workers": DataLoader(Pairs(images), batch_size=8, num_workers=1),
        "a loader of dicts": DataLoader(Stream(images), batch_size=8),
        "a loader of single samples": DataLoader(Pairs(images), batch_size=None),
        "a dataset": TensorDataset(tensor, torch.zeros(COUNT)),
        "a stream": Stream(images),
        "a tensor": tensor,
        "a tensor with a gradient": tensor.clone().requires_grad_(),
        "half the tensors": [tensor[:5], tensor[5:]],
    }
    for kind, data in kinds.items():
        assert onnx_mipp.prune(MODEL, data, **FEW).model_bytes == expected, kind


def test_datasets(images, expected):
    columns = {"input": list(images), "label": list(range(COUNT)), "text": [f"picture {i}" for i in range(COUNT)]}
    dataset = datasets.Dataset.from_dict(columns)
    typed = dataset.cast_column("input", datasets.Array3D(shape=images.shape[1:], dtype="float32"))
    kinds = {
        "lists": dataset,
        "arrays of a known shape": typed,
        "arrays": typed.with_format("numpy"),
        "tensors": typed.with_format("torch"),
        "tensors of TensorFlow": typed.with_format("tf"),
        "only the input": typed.select_columns("input"),
        "a stream": typed.to_iterable_dataset(),
        "batches": typed.with_format("numpy").iter(batch_size=8),
        "a loader": DataLoader(typed.with_format("torch"), batch_size=8),
        "a transform": dataset.with_transform(lambda rows: {"input": np.asarray(rows["input"], np.float32)}),
        "a column": typed.with_format("numpy")["input"],
    }
    for kind, data in kinds.items():
        assert onnx_mipp.prune(MODEL, data, **FEW).model_bytes == expected, kind
    with pytest.raises(onnx_mipp.Error, match="input 'input'; found .*picture"):
        onnx_mipp.prune(MODEL, dataset.rename_column("input", "picture"), **FEW)


def test_tensorflow(images, expected):
    labels = np.arange(COUNT)
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    named = tf.data.Dataset.from_tensor_slices(({"input": images, "other": labels}, labels))
    kinds = {
        "batches": tf.data.Dataset.from_tensor_slices(images).batch(8),
        "batches with labels": pairs.batch(8).prefetch(1),
        "batches by name with labels": named.batch(8),
        "single samples": pairs,
        "an iterator": iter(pairs.batch(8)),
        "arrays": pairs.batch(8).as_numpy_iterator(),
        "a tensor": tf.constant(images),
    }
    for kind, data in kinds.items():
        assert onnx_mipp.prune(MODEL, data, **FEW).model_bytes == expected, kind


def two_inputs() -> bytes:
    """A network with two inputs: rows of numbers, and numbers of rows of a table."""
    random = np.random.default_rng(0)
    weights = {
        "table": random.normal(size=(30, 16)), "first": random.normal(size=(8, 16)),
        "hidden": random.normal(size=(16, 32)), "last": random.normal(size=(32, 4)),
    }
    nodes = [
        helper.make_node("Gather", ["table", "places"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["row"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["numbers", "first"], ["mixed"]),
        helper.make_node("Add", ["mixed", "row"], ["sum"]),
        helper.make_node("MatMul", ["sum", "hidden"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "last"], ["scores"]),
    ]
    given = [("numbers", onnx.TensorProto.FLOAT, ["N", 8]), ("places", onnx.TensorProto.INT64, ["N", 5])]
    graph = helper.make_graph(
        nodes, "two", [helper.make_tensor_value_info(*one) for one in given],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def test_several_inputs():
    random = np.random.default_rng(1)
    numbers = random.normal(size=(64, 8)).astype(np.float32)
    places = random.integers(0, 30, size=(64, 5))
    labels = random.integers(0, 4, size=64)
    model = two_inputs()
    expected = onnx_mipp.prune(model, {"numbers": numbers, "places": places}, **FEW).model_bytes
    assert len(expected) < len(model)
    rows = datasets.Dataset.from_dict({"places": places, "numbers": numbers, "label": labels})
    tensors = torch.from_numpy(numbers), torch.from_numpy(places), torch.from_numpy(labels)
    kinds = {
        "a loader, in order, with labels": DataLoader(TensorDataset(*tensors), batch_size=16),
        "rows by name": rows,
        "inputs in a tuple, with labels": tf.data.Dataset.from_tensor_slices(((numbers, places), labels)).batch(16),
        "inputs by name, with labels": tf.data.Dataset.from_tensor_slices(
            ({"places": places, "numbers": numbers}, labels)
        ),
    }
    for kind, data in kinds.items():
        assert onnx_mipp.prune(model, data, **FEW).model_bytes == expected, kind
