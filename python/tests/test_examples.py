"""The metrics of examples/, on models that give back what they get: what they have to say is then known."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def saved(path: Path, nodes: list, ranks: dict[str, int], constants: dict[str, np.ndarray] = {}, **metadata: str) -> Path:
    """A model of inputs with these ranks, of which the nodes make `y`."""
    sources = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in ranks.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "known", sources, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path / "model.onnx")
    return path / "model.onnx"


def echo(path: Path, ranks: dict[str, int], returned: str, **metadata: str) -> Path:
    """A model that gives back one of its inputs."""
    return saved(path, [helper.make_node("Identity", [returned], ["y"])], ranks, **metadata)


def said(script: str, model: Path, **arrays: np.ndarray) -> float:
    data = model.with_name("data.npz")
    np.savez(data, **arrays)
    command = [sys.executable, EXAMPLES / script, model, data]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def test_right_answers_are_counted(tmp_path):
    scores = np.eye(7, dtype=np.float32)[np.arange(120) % 7]
    labels = np.arange(120) % 7
    labels[:30] += 1
    assert said("right.py", echo(tmp_path, {"x": 2}, "x"), x=scores, labels=labels) == 75.0


def test_characters_are_read_as_ctc_says(tmp_path):
    model = echo(tmp_path, {"x": 3}, "x", character="a\nb\nc")
    # 0 is none, then a, b and c, and 4 is a space.
    best = [[1, 1, 0, 1, 2, 2, 4, 3], [0, 3, 3, 0, 0, 0, 0, 0]]
    pictures = np.eye(5, dtype=np.float32)[best]
    assert said("characters.py", model, x=pictures, texts=np.array(["aab c", "c"])) == 100.0
    # One letter is another, one is missing, and one is too many: of 7 that there are.
    wrong = np.array(["abb ca", "b"])
    assert said("characters.py", model, x=pictures, texts=wrong) == pytest.approx(100 * (1 - 3 / 7))


def test_sentences_rank_as_people_rank_them(tmp_path):
    model = echo(tmp_path, {"states": 3, "attention_mask": 2}, "states")
    angles = np.array([0.1, 0.5, 1.0, 1.5])
    right = np.stack([np.cos(angles), np.sin(angles)], 1)
    states = np.concatenate([np.tile([1.0, 0.0], (4, 1)), right])[:, None].repeat(3, 1)
    # What is masked does not count.
    states[:, 2] = 100
    mask = np.tile([1, 1, 0], (8, 1))
    arrays = {"states": states.astype(np.float32), "attention_mask": mask.astype(np.float32)}
    assert said("sentences.py", model, scores=np.array([5, 4, 3, 1]), **arrays) == pytest.approx(100)
    # Spearman's formula without ties: 1 - 6 * (1 + 1) / (4 * 15).
    assert said("sentences.py", model, scores=np.array([5, 4, 1, 3]), **arrays) == pytest.approx(80)


def test_boxes_are_hit_missed_and_made_up(tmp_path):
    side = 32
    cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
    outputs = np.zeros((2, cells, 6), np.float32)
    # Around (12, 12), seen from two cells; and around (28, 28), where none is. Sizes are 8, by cells of 8.
    for cell, place, score in ((5, (0.5, 0.5), 0.9), (6, (-0.5, 0.5), 0.8), (15, (0.5, 0.5), 0.7)):
        outputs[0, cell] = [*place, 0, 0, 1, score]
    # One of two, and one that is too unsure to count.
    outputs[1, 5], outputs[1, 0] = [0.5, 0.5, 0, 0, 1, 0.9], [0.5, 0.5, 0, 0, 0.5, 0.4]
    truth = np.full((2, 2, 4), np.nan)
    truth[:, 0], truth[1, 1] = [8, 8, 16, 16], [24, 0, 32, 8]
    # Each picture is filled with its number.
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["number"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["number"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["outputs", "place"], ["y"]),
    ]
    model = saved(tmp_path, nodes, {"images": 4}, {"outputs": outputs})
    images = np.arange(2, dtype=np.float32)[:, None, None, None] * np.ones((3, side, side), np.float32)
    # 2 hits, 3 seen, 3 there.
    assert said("boxes.py", model, images=images, boxes=truth) == pytest.approx(200 * 2 / 6)


def test_windows_of_speech_are_counted(tmp_path):
    nodes = [helper.make_node("ReduceMax", ["input"], ["y"], axes=[1], keepdims=0)]
    model = saved(tmp_path, nodes, {"input": 2, "h": 3, "c": 3})
    windows = np.array([[0.1, 0.9], [0.2, 0.3], [0.6, 0.1], [0.0, 0.4]], np.float32)
    truth = np.array([True, True, True, False])
    assert said("speech.py", model, windows=windows, truth=truth, ends=np.array([1, 4])) == 75.0
