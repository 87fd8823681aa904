"""Made-up calibration data for the models of the zoo (zoo.py): a few samples for each input, written as .npz."""

import zlib
from pathlib import Path

import numpy as np
import onnxruntime

TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip
# Inputs without axes.
SCALARS = {"sr": 16000, "fmin": 46.9, "fmax": 2093.75}
# Integers are below this.
VOCABULARY = {"tashkeel_bilstm_int8": 54}


def pink(random: np.random.Generator, shape: tuple[int, ...], axes: tuple[int, ...], exponent: float) -> np.ndarray:
    """Noise with a spectrum of a power of the frequency, of unit variance."""
    frequencies = np.meshgrid(*(np.fft.fftfreq(shape[axis]) for axis in axes), indexing="ij")
    radius = np.sqrt(sum(f**2 for f in frequencies))
    radius = np.maximum(radius, 1 / max(shape[axis] for axis in axes))
    spread = [shape[axis] if axis in [a % len(shape) for a in axes] else 1 for axis in range(len(shape))]
    spectrum = np.fft.fftn(random.normal(size=shape), axes=axes) / radius.reshape(spread) ** exponent
    noise = np.fft.ifftn(spectrum, axes=axes).real
    return noise / (noise.std() or 1.0)


def leaves(random: np.random.Generator, channels: int, height: int, width: int) -> np.ndarray:
    """An image of discs that hide each other, with a power law of sizes and texture, of unit variance."""
    image = np.zeros((channels, height, width))
    rows, columns = np.mgrid[:height, :width]
    largest = max(height, width) / 2
    for _ in range(150):
        radius = 1 / np.sqrt(1 / 2**2 - random.random() * (1 / 2**2 - 1 / largest**2))
        y, x = random.uniform(0, height), random.uniform(0, width)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        # Colours differ less than brightness.
        image[:, inside] = (random.normal() + 0.3 * random.normal(size=channels))[:, None]
    image += 0.3 * pink(random, image.shape, (1, 2), 1.0)
    return (image - image.mean()) / image.std()


def sample(random: np.random.Generator, name: str, dtype, shape: tuple[int, ...], vocabulary: int) -> np.ndarray:
    lower = name.lower()
    if np.issubdtype(dtype, np.floating):
        if len(shape) == 3 and min(shape[1:]) >= 8 and shape[0] in (1, 3):
            return leaves(random, *shape).astype(dtype)
        if len(shape) == 3 and min(shape[:2]) >= 8 and shape[2] in (1, 3):
            return leaves(random, shape[2], *shape[:2]).transpose(1, 2, 0).astype(dtype)
        return pink(random, shape, (-1,), 0.5).astype(dtype) if shape else dtype(random.normal())
    if dtype == np.bool_ or "mask" in lower:
        return np.ones(shape, dtype)
    return np.zeros(shape, dtype) if "type" in lower else random.integers(0, vocabulary, shape).astype(dtype)


def write(model: Path, target: Path, shapes: dict[str, list[int]], count: int) -> tuple[dict[str, np.ndarray], set[str]]:
    """Writes `count` samples for each input of the model and gives them, and the names of those inputs that have one value
    for all; `shapes` has the sizes that the model leaves open."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    specs = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).get_inputs()
    random = np.random.default_rng(zlib.crc32(model.stem.encode()))
    vocabulary = VOCABULARY.get(model.stem, 100)
    arrays, whole = {}, set()
    for spec in specs:
        dtype = TYPES[spec.type]
        # The first axis of a recurrent layer's state counts layers, and the second one is the batch.
        first = spec.shape[0] if len(spec.shape) == 3 else None
        is_state = isinstance(first, int) and first > 1 and first != specs[0].shape[0]
        known = [1 if is_state and axis == 1 and not isinstance(size, int) else size for axis, size in enumerate(spec.shape)]
        sizes = tuple(shapes.get(spec.name, known))
        if not all(isinstance(size, int) for size in sizes[1:]):
            raise ValueError(f"{model.name}: give the open sizes of input '{spec.name}': {spec.shape}")
        if not sizes:
            arrays[spec.name] = np.array(SCALARS.get(spec.name, 1), dtype)
        elif is_state:
            arrays[spec.name] = sample(random, spec.name, dtype, sizes, vocabulary)
        else:
            samples = [sample(random, spec.name, dtype, sizes[1:], vocabulary) for _ in range(count)]
            arrays[spec.name] = np.stack(samples)
        if not sizes or is_state:
            whole.add(spec.name)
    np.savez(target, **arrays)
    return arrays, whole
