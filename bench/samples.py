"""Accuracy against the number of calibration samples, as docs/results/samples.md has it.

    python bench/samples.py --bin FOLDER [--data FOLDER] [--counts 32,64,...] [--nets resnet,vgg] [--macs 0.5,0.25]
                            [--csv docs/results]

FOLDER has onnx-mipp; --csv keeps the rows in samples.csv of that folder. Prunes the fixtures with --repair sequential, otherwise as the program does by itself,
on so many images of fixtures/calib.npz, and where these do not suffice on others of the training set as well.
Accuracies are those on fixtures/eval.npz and on the whole test set. The images beyond the fixtures' are those
that fixtures/train.py reads: the files of Debian's package dataset-fashion-mnist, or --data with the same.
Needs numpy, and onnxruntime.
"""

import argparse
import gzip
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from tables import Table

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
MEAN, STD = np.float32(0.2860), np.float32(0.3530)
BATCH = 500


def read_idx(path: Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    dims = raw[3]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(np.frombuffer(raw, ">u4", dims, 4))


def load(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images as fixtures/train.py normalises them, and labels."""
    pixels = read_idx(folder / f"{split}-images-idx3-ubyte.gz")[:, None].astype(np.float32)
    return (pixels / np.float32(255) - MEAN) / STD, read_idx(folder / f"{split}-labels-idx1-ubyte.gz")


def more_images(own: np.ndarray, folder: Path, count: int) -> np.ndarray:
    """The calibration images, and after them others of the training set in a random order."""
    if count <= len(own):
        return own[:count]
    training, _ = load(folder, "train")
    known = {image.tobytes() for image in own}
    order = np.random.default_rng(0).permutation(len(training))
    others = [training[index] for index in order[: 2 * count] if training[index].tobytes() not in known]
    return np.concatenate([own, np.stack(others[: count - len(own)])])


def accuracy(model: Path, images: np.ndarray, labels: np.ndarray) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for first in range(0, len(images), BATCH):
        scores = session.run(None, {name: images[first : first + BATCH]})[0]
        right += int((scores.argmax(1) == labels[first : first + BATCH]).sum())
    return 100 * right / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--counts", default="32,64,128,256,512,1024,2048,4096")
    parser.add_argument("--nets", default="resnet,vgg")
    parser.add_argument("--macs", default="0.5,0.25")
    parser.add_argument("--csv", type=Path, help="folder of samples.csv")
    arguments = parser.parse_args()
    own = np.load(FIXTURES / "calib.npz")["input"]
    held = np.load(FIXTURES / "eval.npz")
    tests = [(held["input"], held["labels"]), load(arguments.data, "t10k")]

    def shares(model: Path) -> list[str]:
        return [f"{accuracy(model, *test):.1f}" for test in tests]

    columns = ["net", "MACs", "samples", "top-1 of 1,000", "top-1 of 10,000"]
    table = Table("samples", columns, columns[:3], arguments.csv)
    for net in arguments.nets.split(","):
        model = FIXTURES / f"{net}_bn_torchscript.onnx"
        table.add(net, 1, "", *shares(model))
        for macs in arguments.macs.split(","):
            for count in map(int, arguments.counts.split(",")):
                with tempfile.TemporaryDirectory() as folder:
                    data, output = Path(folder, "images.npy"), Path(folder, "out.onnx")
                    np.save(data, more_images(own, arguments.data, count))
                    command = [arguments.bin / "onnx-mipp", model, output, "--calib", data, "--macs", macs]
                    subprocess.run([*command, "--repair", "sequential"], check=True, capture_output=True)
                    table.add(net, macs, count, *shares(output))


if __name__ == "__main__":
    main()
