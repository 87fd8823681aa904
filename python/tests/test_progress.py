"""Progress: bars of the real tqdm, and objects of one's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnx_mipp
import pytest
import tqdm.auto

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "fixtures/resnet_bn_torchscript.onnx"
DATA = ROOT / "fixtures/calib.npz"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.load(DATA)["input"][:32]


class Counts:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.stages: list[list] = []
        self.notes: list[str] = []

    def stage(self, name, total, what) -> None:
        self.stages.append([name, total, what, 0])

    def advance(self, count) -> None:
        self.stages[-1][3] += count

    def note(self, text) -> None:
        self.notes.append(text)


def test_counts_come_to_their_ends(images):
    counts = Counts()
    onnx_mipp.prune(MODEL, images, ratio=0.5, threads=1, device="cpu", progress=counts)
    counted = [stage for stage in counts.stages if stage[1] is not None]
    # One in eight is held back.
    assert ["calibrating", 28, "samples", 28] in counted and len(counted) > 1
    for name, total, what, count in counted:
        assert count == total, (name, what)
    assert "repairing" in [stage[0] for stage in counts.stages if stage[1] is None]
    assert counts.notes == []


def test_bars_of_tqdm_count_to_their_ends(images, monkeypatch, capsys):
    bars = []

    class Kept(tqdm.auto.tqdm):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, mininterval=0, **options)
            bars.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Kept)
    onnx_mipp.prune(MODEL, images, ratio=0.5, threads=1, batch=4, device="cpu", progress=True)
    counted = [bar for bar in bars if bar.total is not None]
    assert counted and all(bar.n == bar.total for bar in counted)
    shown = capsys.readouterr().err
    assert re.search(r"calibrating:  14%\|.*\| 4/28 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ samples/s\]", shown), shown
    assert "repairing" in shown
    # Nothing stays on the screen.
    assert not re.sub(r"\r *\r|.*\r", "", shown).strip(), shown


def test_bars_end_with_an_error_and_notes_stand_above_them(images, capsys):
    with pytest.raises(onnx_mipp.Error, match="macs"):
        onnx_mipp.prune(MODEL, images, macs=0.001, threads=1, progress=True)
    assert not tqdm.auto.tqdm._instances
    onnx_mipp.prune(MODEL, ratio=0.25, threads=1, samples=16, progress=True)
    assert re.search(r"\rWARNING: .*made up", capsys.readouterr().err)


def test_what_cannot_show_progress_is_refused(images, monkeypatch):
    with pytest.raises(TypeError, match="progress: expected True, a function or a Progress, found int"):
        onnx_mipp.prune(MODEL, images, progress=3)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="progress=True needs the package tqdm: pip install tqdm"):
        onnx_mipp.prune(MODEL, images, progress=True)


def test_an_error_in_an_object_ends_the_work(images):
    class Fails(Counts):
        def advance(self, count) -> None:
            raise LookupError(count)

    with pytest.raises(LookupError):
        onnx_mipp.prune(MODEL, images, macs=0.5, progress=Fails())
