"""SHA-256 of what the program writes, for changes that must change nothing.

    python bench/bytes.py --bin target/release/onnx-mipp > before.txt
    python bench/bytes.py --bin target/release/onnx-mipp | diff before.txt -

Every fixture and every model of fixtures/zoo that is there (ZOO below) is pruned with each set of options; a line has
the sums of the model with its data, and of the report without times. Needs ORT_DYLIB_PATH or a library that the
program finds. One thread, so that the bytes are those of the same machine.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
ZOO = (
    "ddddocr_common_det",
    "magika",
    "minilm_int8_shipped",
    "ppocr_v6_rec",
    "silero_vad",
    "wakeword_jarvis",
)
DATA = ["--calib", str(FIXTURES / "calib.npz")]
OPTIONS = {
    "default": [],
    "once": ["--macs", "0.5", "--repair", "once"],
    "sequential": ["--macs", "0.5", "--repair", "sequential"],
    "mi": ["--mi", "0.9", "--estimator", "copula", "--repair", "none"],
    "wide": ["--params", "0.6", "--heads", "inside", "--prune-normalized", "--align", "1", "--best-effort"],
}
# Of a report: what the clock says, and where the run was.
LEFT_OUT = ("latency_ms", "seconds", "command", "input", "version")


def digest(paths: list[pathlib.Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [without_times(inner) for inner in value]
    return value


def line(program: str, model: pathlib.Path, name: str, options: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        # The model that is written tells the command, so its names are always the same.
        shutil.copy(model, pathlib.Path(folder, "in.onnx"))
        command = [program, "in.onnx", "out.onnx", *options, "--threads", "1", "-q", "--report", "report.json"]
        done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            return f"{model.stem} {name}: {done.stderr.strip().splitlines()[-1]}"
        models = digest(list(pathlib.Path(folder).glob("out.onnx*")))
        told = json.dumps(without_times(json.loads(pathlib.Path(folder, "report.json").read_text())), sort_keys=True)
        return f"{model.stem} {name}: {models} {hashlib.sha256(told.encode()).hexdigest()[:16]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    program = str(pathlib.Path(parser.parse_args().bin).resolve())
    os.environ["RAYON_NUM_THREADS"] = "1"
    zoo = [FIXTURES / "zoo" / f"{name}.onnx" for name in ZOO]
    models = [(model, DATA) for model in sorted(FIXTURES.glob("*.onnx"))]
    models += [(model, ["--samples", "32"]) for model in zoo if model.exists()]
    for model, data in models:
        for name, options in OPTIONS.items():
            print(line(program, model, name, data + options), flush=True)


if __name__ == "__main__":
    main()
