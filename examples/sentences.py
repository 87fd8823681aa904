"""A metric for a model that embeds sentences, `onnx-mipp --metric 'python examples/sentences.py {model} pairs.npz'`:
Spearman's correlation, in percent, between how alike it finds the two sentences of a pair and how alike people do. The
file has people's `scores` and the inputs, tokenized: first those of all left sentences, then those of all right ones.
The model gives a state per token, of which the mean where `attention_mask` is 1 embeds the sentence.
"""

import sys

import numpy as np

# So many sentences run at once.
BATCH = 50


def alike(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The cosine between each sentence of the first half and the one as far into the second."""
    mean = (states * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    left, right = np.split(unit, 2)
    return (left * right).sum(1)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks; the mean of them where values are equal."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """In percent."""
    return 100 * float(np.corrcoef(ranks(left), ranks(right))[0, 1])


def main() -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    data = np.load(sys.argv[2])
    inputs = {source.name: data[source.name] for source in session.get_inputs()}
    mask = data["attention_mask"]
    parts = [slice(first, first + BATCH) for first in range(0, len(mask), BATCH)]
    states = [session.run(None, {name: values[part] for name, values in inputs.items()})[0] for part in parts]
    print(spearman(alike(np.concatenate(states), mask), data["scores"]))


if __name__ == "__main__":
    main()
