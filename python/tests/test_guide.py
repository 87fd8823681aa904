"""The guide's blocks of Python, run as they are printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def test_the_blocks_of_the_guide_run(tmp_path, monkeypatch):
    shutil.copy(ROOT / "fixtures/resnet_bn_torchscript.onnx", tmp_path / "in.onnx")
    monkeypatch.chdir(tmp_path)
    images = np.load(ROOT / "fixtures/calib.npz")["input"][:16]
    text = (ROOT / "docs/guide/python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    # What that of PyTorch shows, integrations/test_torch_apply.py does.
    runnable = [block for block in blocks if "torch" not in block]
    assert (len(blocks), len(runnable)) == (5, 4)
    names = {"loader": [(half, np.zeros(8)) for half in (images[:8], images[8:])]}
    for block in runnable:
        exec(compile(block, "python.md", "exec"), names)
    assert Path("out.onnx").stat().st_size < Path("in.onnx").stat().st_size
