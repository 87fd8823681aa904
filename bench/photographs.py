"""Photographs for the ImageNet classifiers of the zoo: calibration and held-back images as arrays.

    python bench/photographs.py STAMPS FOOLBOX MODEL.onnx FOLDER

STAMPS is the folder usr/share/tuxpaint/stamps of Debian's package tuxpaint-stamps-default, unpacked
(`apt-get download`, `dpkg-deb -x`); FOOLBOX the folder foolbox/data of the wheel foolbox==3.3.4.
Writes FOLDER/calib.npz and FOLDER/eval.npz, the form that `cargo run --example accuracy -- --all
--data FOLDER MODEL.onnx` reads. The labels of the held-back images are what MODEL says of them, so that
the accuracies printed there are agreements with the original model. Needs numpy, Pillow and onnxruntime.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

# Folders of the stamps that hold photographs rather than drawings.
PHOTOGRAPHED = (
    "animals", "clothes", "food", "hobbies", "household", "medical", "military", "naturalforces",
    "people", "plants", "seasonal", "sports", "town", "vehicles",
)  # fmt: skip
LEAST_SIDE = 100
# One photograph in so many is held back.
HELD_BACK = 4
# Means and standard deviations of the inputs, by the names of the zoo.
NORMALISED = {
    "mobilenet_v2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3),
}


def photograph(path: Path) -> Image.Image:
    """The image on white, where it is cut out."""
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def prepared(image: Image.Image, mean: tuple, std: tuple) -> np.ndarray:
    """torchvision's way: the shorter side to 256, the middle 224 x 224."""
    scale = 256 / min(image.size)
    image = image.resize([max(256, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - 224) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return ((pixels - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)


def main() -> None:
    stamps, foolbox, model, folder = map(Path, sys.argv[1:5])
    name = next(name for name in NORMALISED if model.stem.startswith(name))
    paths = sorted(path for part in PHOTOGRAPHED for path in (stamps / part).rglob("*.png"))
    images = [image for image in map(photograph, paths) if min(image.size) >= LEAST_SIDE]
    calibration = [image for index, image in enumerate(images) if index % HELD_BACK]
    held_back = images[::HELD_BACK] + [photograph(path) for path in sorted(foolbox.glob("imagenet_*"))]
    arrays = [np.stack([prepared(image, *NORMALISED[name]) for image in part]) for part in (calibration, held_back)]

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    scores = [session.run(None, {source: batch})[0] for batch in np.split(arrays[1], range(16, len(arrays[1]), 16))]
    labels = np.concatenate(scores).argmax(1)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "calib.npz", **{source: arrays[0]})
    np.savez(folder / "eval.npz", **{source: arrays[1], "labels": labels})
    print(f"{model.name}: {len(calibration)} photographs for calibration, {len(held_back)} held back, "
          f"{len(set(labels.tolist()))} classes among these")  # fmt: skip


if __name__ == "__main__":
    main()
