"""Accuracy on nets of the fixtures' families on which nothing was chosen: a table of docs/results/accuracy.md.

    python bench/unseen.py FOLDER [--bin FOLDER] [--data FOLDER] [--nets resnet vgg] [--seed 2] [--train-only]
                           [--csv docs/results]

Trains the nets as fixtures/train.py does, but with another seed and on 52,000 of the 60,000 training images of Fashion-MNIST,
and keeps them in the first FOLDER, where they are not trained again. Calibration is on 512 of the 52,000 images without
their labels; accuracies are those on the other 8,000, which neither a net nor the program has seen. Prints what each repair
loses, and with --csv keeps it in unseen.csv of that folder. Needs the packages of fixtures/requirements.txt and torch.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from samples import accuracy
from tables import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "fixtures"))
import train  # noqa: E402
from nets import NETS  # noqa: E402

SEEN, CALIB = 52_000, 512
BUDGETS = {"resnet": (0.5, 0.25), "vgg": (0.5, 0.25), "mobilenet": (0.6, 0.25), "densenet": (0.5, 0.25)}
# Of each: options of the program, after those that all have.
RUNS = {"once": ["--repair", "once"], "sequential": [], "sequential, --align 1": ["--align", "1"]}


def trained(net: str, folder: Path, images: np.ndarray, labels: np.ndarray, seed: int) -> Path:
    path = folder / f"{net}.onnx"
    if not path.exists():
        model = train.train(net, images, labels, train.EPOCHS[net], seed)
        train.export(model, net, "bn", "torchscript", path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--csv", type=Path, help="folder of unseen.csv")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = train.load(arguments.data, "train")
    order = np.random.default_rng(arguments.seed).permutation(len(images))
    seen, held = np.sort(order[:SEEN]), np.sort(order[SEEN:])
    calib = folder / "calib.npz"
    np.savez_compressed(calib, input=images[np.sort(order[:CALIB])])

    table = Table("unseen", ["net", "unpruned", "MACs", *RUNS], ["net", "MACs"], arguments.csv)
    for net in arguments.nets:
        model = trained(net, folder, images[seen], labels[seen], arguments.seed)
        if arguments.train_only:
            continue
        dense = accuracy(model, images[held], labels[held])
        for macs in BUDGETS[net]:
            lost = []
            for options in RUNS.values():
                output = folder / "pruned.onnx"
                command = [arguments.bin / "onnx-mipp", model, output, "--calib", calib, "--macs", str(macs)]
                subprocess.run([*command, *options], check=True, capture_output=True)
                lost.append(dense - accuracy(output, images[held], labels[held]))
            table.add(net, f"{dense:.1f}", macs, *(f"{points:.1f}" for points in lost))


if __name__ == "__main__":
    main()
