"""What budgets cost two ImageNet classifiers: docs/results/accuracy.md has the tables.

    python bench/imagenet.py FOLDER [--net NAME ...] [--budget "macs 0.8" ...] [--way NAME ...] [--bin PATH]
                             [--options "--seed 1"] [--csv docs/results] [--keep FOLDER]

FOLDER has JPEGs and labels.csv (file, class), 600 images of ImageNet from the public repository
EliSchwartz/imagenet-sample-images. Three folds, drawn at random: two calibrate, the third is judged, so that all 600
are. The ways:

- sequential, once, tuned: the program, by that repair
- L1 sequential, L1 once: the channels with the largest weights at one ratio for all groups, by the same repair
- noise: the program, calibrated on noise of amplitude 1/f^1.5 in the images' place
- without data, without data tuned: the program, on inputs that it makes up, and by that repair
- two steps: the program to the square root of the budget, and that model again to what the budget leaves of it

Columns: `agreement` is how often the answer is the original's; `error` the squared change of the scores over their
variance across the images. The standard error is that of the points lost, by 1000 draws of the images with replacement.
The models come from `python fixtures/zoo.py 'mobilenet_v2*' 'efficientnet_lite*'`. Needs numpy, onnx, onnxruntime, Pillow.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from defaults import imagenet
from judged import ROOT, outputs, percent_right, report, share, standard_error
from peers.l1 import l1_plan
from tables import Table

NETS = ("mobilenet_v2", "efficientnet_lite0")
BUDGETS = ("macs 0.9", "macs 0.8", "macs 0.7", "macs 0.6", "macs 0.5")
WAYS = ("sequential", "once", "tuned", "L1 sequential", "L1 once", "noise", "without data", "without data tuned", "two steps")
COLUMNS = ["net", "way", "budget", "MACs left", "before", "after", "lost", "standard error", "agreement", "error", "seconds"]


def noise(shape: tuple[int, ...]) -> np.ndarray:
    """Images of noise with the spectrum of photographs, of mean 0 and variance 1."""
    spectrum = np.fft.fft2(np.random.default_rng(0).normal(size=shape))
    rows, columns = (np.fft.fftfreq(size) for size in shape[2:])
    frequency = np.hypot(rows[:, None], columns[None])
    frequency[0, 0] = np.inf
    made = np.fft.ifft2(spectrum / frequency**1.5).real
    return (made / made.std(axis=(2, 3), keepdims=True)).astype(np.float32)


def options(way: str, budget: str, model: Path, program: Path, work: Path) -> list[str]:
    name, value = budget.split()
    repair = way.split()[-1]
    chosen = ["--repair", repair] if repair in ("sequential", "once", "tuned") else []
    if way.startswith("L1"):
        if name != "macs":
            raise SystemExit(f"{way}: the budget must be of MACs, found {budget}")
        (work / "plan.json").write_text(json.dumps(l1_plan(program, model, float(value))))
        return [*chosen, "--plan", str(work / "plan.json")]
    return [*chosen, f"--{name}", value]


def pruned(program: Path, model: Path, out: Path, asked: list[str]) -> float:
    """Prunes; the share of the MACs that is left."""
    return share(report(program, model, out, asked))


def row(net: str, folder: Path, way: str, budget: str, arguments: argparse.Namespace) -> list[str]:
    program, keep = arguments.bin.resolve(), arguments.keep
    further = arguments.options.split()
    shares, seconds, before, after, errors = [], [], [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for number, case in enumerate(imagenet(net, folder)):
            out = (keep or work) / f"{net}.{way}.{budget}.{number}.onnx".replace(" ", "-")
            if not way.startswith("without data") or number == 0:
                images = case.calib["input"]
                np.savez(work / "calib.npz", input=noise(images.shape) if way == "noise" else images)
                data = [] if way.startswith("without data") else ["--calib", str(work / "calib.npz")]
                began = time.monotonic()
                if way == "two steps":
                    name, value = budget.split()
                    step = work / "step.onnx"
                    left = pruned(program, case.model, step, [*data, f"--{name}", str(float(value) ** 0.5), *further])
                    left *= pruned(program, step, out, [*data, f"--{name}", str(float(value) / left), *further])
                else:
                    asked = options(way, budget, case.model, program, work)
                    left = pruned(program, case.model, out, [*data, *asked, *further])
                shares.append(left)
                seconds.append(time.monotonic() - began)
                made = out
            scores = [outputs(model, case.judged) for model in (case.model, made)]
            before.append(case.mark(scores[0]))
            after.append(case.mark(scores[1]))
            whole, left = scores
            agreed = whole.argmax(1) == left.argmax(1)
            errors.append((agreed, np.square(left - whole).sum() / np.square(whole - whole.mean(0)).sum()))
    marks = np.concatenate(before), np.concatenate(after)
    first, second = map(percent_right, marks)
    agreement = 100 * np.mean([agreed.mean() for agreed, _ in errors])
    points = first, second, first - second, standard_error(percent_right, *marks), agreement
    macs = ", ".join(f"{share:.3f}" for share in shares)
    error = np.mean([error for _, error in errors])
    return [net, way, budget, macs, *(f"{value:.1f}" for value in points), f"{error:.3f}", f"{np.mean(seconds):.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the images")
    parser.add_argument("--net", nargs="+", default=list(NETS))
    parser.add_argument("--budget", nargs="+", default=list(BUDGETS), help='"macs 0.8", "ratio 0.05", ...')
    parser.add_argument("--way", nargs="+", choices=WAYS, default=["sequential"])
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release" / "onnx-mipp", help="the program")
    parser.add_argument("--options", default="", help="further options of the program")
    parser.add_argument("--csv", type=Path, help="folder of imagenet.csv")
    parser.add_argument("--keep", type=Path, help="folder for the models")
    arguments = parser.parse_args()
    table = Table("imagenet", COLUMNS, COLUMNS[:3], arguments.csv)
    for net in arguments.net:
        for way in arguments.way:
            for budget in arguments.budget:
                table.add(*row(net, arguments.folder, way, budget, arguments))


if __name__ == "__main__":
    main()
