"""What the default command costs, with data and without: docs/results/accuracy.md has the tables.

    python bench/defaults.py FOLDER [--task NAME ...] [--bin PATH] [--data with without] [--options "--macs 0.8"]
                             [--csv docs/results]

Runs `onnx-mipp IN OUT` with `--calib` and without, and no other option but --options, and judges both models with labels,
on samples that the program has not seen:

- mobilenet_v2, efficientnet_lite0: top-1 on 600 photographs of ImageNet in FOLDER/imagenet, which has them as JPEGs and
  labels.csv (file, class), from the public repository EliSchwartz/imagenet-sample-images. Three folds, drawn at random:
  two calibrate, the third is judged, so that all are.
- recogniser, sentences, voice: as in bench/tasks.py, with FOLDER/stsb.
- resnet, vgg, mobilenet, densenet: top-1 of the fixtures on fixtures/eval.npz, calibrated on fixtures/calib.npz.

The table is printed, and with --csv kept in defaults.csv of that folder.

The standard error is that of the difference, by 1000 draws of the judged samples with replacement. The models that are
not fixtures come from `python fixtures/zoo.py 'mobilenet_v2*' 'efficientnet_lite0*' ppocr_rec 'minilm*' silero_vad_sequence`.
Needs numpy, onnxruntime, Pillow, tokenizers for the sentences and espeak-ng for the voice.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from judged import COLUMNS, ROOT, ZOO, Arrays, Case, percent_right, row
from photographs import NORMALISED, prepared
from PIL import Image
from tables import Table
from tasks import recogniser, sentences, voice

FIXTURES = ROOT / "fixtures"
NETS = ("resnet", "vgg", "mobilenet", "densenet")
IMAGENET = ("mobilenet_v2", "efficientnet_lite0")
TASKS = (*IMAGENET, "recogniser", "sentences", "voice", *NETS)
FOLDS = 3


def classifier(name: str, model: Path, calib: Arrays, judged: Arrays, labels: np.ndarray) -> Case:
    def truth(part: slice) -> Arrays:
        return {name: values[part] for name, values in judged.items()} | {"labels": labels[part]}

    return Case(name, model, calib, judged, lambda scores: scores.argmax(1) == labels, percent_right, truth=truth)


def imagenet(name: str, folder: Path) -> Iterator[Case]:
    """The folds of the photographs in `folder`."""
    with open(folder / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    opened = (Image.open(folder / row["file"]).convert("RGB") for row in rows)
    images = np.stack([prepared(image, *NORMALISED[name]) for image in opened])
    labels = np.array([int(row["class"]) for row in rows])
    folds = np.array_split(np.random.default_rng(0).permutation(len(rows)), FOLDS)
    for number, held in enumerate(folds):
        seen = np.concatenate([fold for other, fold in enumerate(folds) if other != number])
        model = ZOO / f"{name}_torchscript.onnx"
        yield classifier(name, model, {"input": images[seen]}, {"input": images[held]}, labels[held])


def fixture(name: str, _: Path) -> Iterator[Case]:
    held = np.load(FIXTURES / "eval.npz")
    calib = {"input": np.load(FIXTURES / "calib.npz")["input"]}
    yield classifier(name, FIXTURES / f"{name}_bn_torchscript.onnx", calib, {"input": held["input"]}, held["labels"])


def cases(task: str, folder: Path) -> Iterator[Case]:
    if task in IMAGENET:
        return imagenet(task, folder / "imagenet")
    made = {name: fixture for name in NETS} | {"recogniser": recogniser, "sentences": sentences, "voice": voice}
    return made[task](task, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release" / "onnx-mipp", help="the program")
    parser.add_argument("--data", nargs="+", choices=("with", "without"), default=["with", "without"])
    parser.add_argument("--options", default="", help="options of the program besides --calib")
    parser.add_argument("--csv", type=Path, help="folder of defaults.csv")
    arguments = parser.parse_args()
    table = Table("defaults", COLUMNS, COLUMNS[:3], arguments.csv)
    for data in arguments.data:
        for task in arguments.task:
            options = arguments.options.split()
            found = cases(task, arguments.folder)
            table.add(*row(task, found, arguments.bin.resolve(), data == "with", options))


if __name__ == "__main__":
    main()
