"""The workflow that builds and publishes the wheels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_workflow_is_what_maturin_makes_of_the_settings():
    maturin = Path(sys.executable).with_name("maturin")
    made = subprocess.run([maturin, "generate-ci", "github"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert (ROOT / ".github/workflows/wheels.yml").read_text() == made.stdout
