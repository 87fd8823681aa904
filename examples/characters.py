"""A metric for a recogniser of text, `onnx-mipp --metric 'python examples/characters.py {model} lines.npz'`: how many
characters it reads right, in percent (1 less the edits over the length). The file has `texts` and the pictures of the
lines under the name of the model's input. The model gives scores per position and letter (CTC: the first is none, a
letter that is repeated counts once) and has its letters in its metadata, as PaddleOCR's have.
"""

import sys

import numpy as np


def letters(session) -> list[str]:
    """Those of the scores, in their order."""
    return ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]


def read(scores: np.ndarray, letters: list[str]) -> str:
    """The text that the scores of one line mean."""
    best = scores.argmax(1)
    fresh = np.insert(best[1:] != best[:-1], 0, True)
    return "".join(letters[index] for index in best[fresh])


def edits(left: str, right: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def main() -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    known, data, name = letters(session), np.load(sys.argv[2]), session.get_inputs()[0].name
    texts = data["texts"].tolist()
    scores = (session.run(None, {name: picture[None]})[0][0] for picture in data[name])
    wrong = sum(edits(read(own, known), text) for own, text in zip(scores, texts))
    print(100 * (1 - wrong / sum(map(len, texts))))


if __name__ == "__main__":
    main()
