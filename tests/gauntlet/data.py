"""Inputs with their calibration data: what images, sounds, tokens and tables have in common with real ones."""

import numpy as np


class Data:
    """The inputs that a net can have."""

    def images(self, channels: int = 3, size: int = 24, name: str = "x", rank: int = 2) -> str:
        """Images with structure of several scales and colours that go together."""
        total = np.zeros((self.samples, channels, *[size] * rank), np.float32)
        for cells in (2, 4, 8, size):
            coarse = self.normal(self.samples, channels, *[min(cells, size)] * rank)
            for axis in range(2, 2 + rank):
                at = np.linspace(0, coarse.shape[axis] - 1, size)
                low = np.floor(at).astype(int)
                high = np.minimum(low + 1, coarse.shape[axis] - 1)
                part = (at - low).reshape([-1 if a == axis else 1 for a in range(2 + rank)])
                coarse = coarse.take(low, axis) * (1 - part) + coarse.take(high, axis) * part
            total += coarse * (4 / cells) ** 0.5
        mix = np.eye(channels) * 0.5 + 0.5
        total = np.tensordot(total, mix, ([1], [0]))
        total = np.moveaxis(total, -1, 1) + self.normal(self.samples, 1, *[1] * rank) * 0.7
        return self.input(name, np.ascontiguousarray(total / total.std(), np.float32))

    def series(self, channels: int, length: int, name: str = "x", last: bool = False) -> str:
        """Series of a few waves and drift, [N, C, T] or [N, T, C]."""
        time = np.arange(length)
        total = np.cumsum(self.normal(self.samples, channels, length), -1) * 0.3
        for _ in range(3):
            speed = self.random.uniform(0.1, 1.2, (self.samples, 1, 1))
            turn = self.random.uniform(0, 6.3, (self.samples, channels, 1))
            total = total + np.sin(time * speed + turn)
        total = total + self.normal(self.samples, channels, length) * 0.3
        total = total.swapaxes(1, 2) if last else total
        return self.input(name, np.ascontiguousarray(total / total.std(), np.float32))

    def vectors(self, width: int, name: str = "x") -> str:
        """Vectors of fewer causes than entries."""
        causes = np.tanh(self.normal(self.samples, max(2, width // 2)) * 1.5)
        total = causes @ self.normal(causes.shape[1], width) + self.normal(self.samples, width) * 0.3
        return self.input(name, (total / total.std()).astype(np.float32))

    def tokens(self, length: int, vocabulary: int, name: str = "tokens") -> str:
        """Token numbers, of which neighbours are often alike."""
        fresh = self.random.integers(0, vocabulary, (self.samples, length))
        step = np.where(self.random.random((self.samples, length)) < 0.4, 1, 0)
        chained = np.roll(fresh, 1, 1) + 1
        return self.input(name, np.where(step, chained % vocabulary, fresh).astype(np.int64))
