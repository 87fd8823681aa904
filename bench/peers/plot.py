"""Draws accuracy against MACs and against measured latency as SVG, side by side."""

from figures import BASELINE, EPOCH, ONNXSIM, OURS, TORCH

WIDTH, HEIGHT = 860, 420
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT = 50, 34, 340, 260
GAP = 80
SERIES = {  # label: colour
    "onnx-mipp": "#0b6e4f",
    "L1, our repair": "#2f7fd1",
    "Torch-Pruning, best re-estimated": "#d1572f",
    "Torch-Pruning, best as pruned": "#b58900",
    "random, re-estimated": "#8a8a8a",
    "onnxsim, best fitted": "#8e44ad",
    "best peer, one labelled epoch": "#111111",
}


def series(net):
    """For each label the entries of all budgets, as (accuracy, entry)."""
    found = {label: [] for label in SERIES}
    for budget in net.budgets:
        picks = {
            "onnx-mipp": (net.get(OURS, budget), "pruned"),
            "L1, our repair": (net.get(BASELINE, budget, "uniform"), "pruned"),
            "random, re-estimated": (net.get("random", budget, "uniform"), "batchnorm"),
            "best peer, one labelled epoch": (net.get(EPOCH, budget), "pruned"),
        }
        for label, methods, figure in (
            ("Torch-Pruning, best re-estimated", TORCH[1:], "batchnorm"),
            ("Torch-Pruning, best as pruned", TORCH[1:], "pruned"),
            ("onnxsim, best fitted", ONNXSIM, "fitted"),
        ):
            best = net.best(methods, budget, figure)
            picks[label] = (best[2] if best else None, figure)
        for label, (entry, figure) in picks.items():
            if entry:
                found[label].append((entry[figure], entry))
    return found


class Panel:
    def __init__(self, x, title, values, low):
        self.x, self.title, self.low = x, title, low
        self.right = 1.05 * max(values, default=1)

    def at(self, value, accuracy):
        across = self.x + PANEL_WIDTH * value / self.right
        return across, TOP + PANEL_HEIGHT * (100 - accuracy) / (100 - self.low)

    def axes(self):
        parts = [f'<text x="{self.x + PANEL_WIDTH / 2}" y="{TOP + PANEL_HEIGHT + 34}" class="m">{self.title}</text>']
        for accuracy in range(self.low, 101, 10):
            _, y = self.at(0, accuracy)
            parts.append(f'<path d="M{self.x} {y:.1f}h{PANEL_WIDTH}" class="g"/>')
            parts.append(f'<text x="{self.x - 6}" y="{y + 4:.1f}" class="e">{accuracy}</text>')
        unit = 0.25 if self.right <= 2 else round(self.right / 5, 1)
        value = 0.0
        while value <= self.right:
            x, y = self.at(value, self.low)
            parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" class="m">{value:.2f}</text>')
            value += unit
        return parts

    def line(self, label, points):
        colour = SERIES[label]
        placed = [self.at(*p) for p in sorted(points)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts = [f'<path d="M{path}" stroke="{colour}" class="l"/>'] if len(placed) > 1 else []
        return parts + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in placed]


def cloud(panel, points):
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="#c9b8b0"/>' for x, y in (panel.at(*p) for p in points)]


def page(net):
    dense = net.dense()
    lines = {label: points for label, points in series(net).items() if points}
    every = [(e["batchnorm"], e) for e in net.results.values() if "batchnorm" in e]
    lowest = min([a for points in [*lines.values(), every] for a, _ in points], default=0)
    low = 10 * int(lowest // 10)
    titles = {"macs": "share of the MACs", "latency": "share of the dense model's latency"}
    parts = []
    for i, (figure, title) in enumerate(titles.items()):
        shown = {label: [(e[figure], a) for a, e in points if figure in e] for label, points in lines.items()}
        dots = [(e[figure], a) for a, e in every if figure in e]
        panel = Panel(LEFT + i * (PANEL_WIDTH + GAP), title, [1, *(v for v, _ in dots)], low)
        if figure in dense:
            x, y = panel.at(1, dense["pruned"])
            parts += [*panel.axes(), *cloud(panel, dots), f'<path d="M{x:.1f} {y:.1f}m-5 0h10m-5 -5v10" class="d"/>']
            parts += [piece for label, points in shown.items() for piece in panel.line(label, points)]
    title = f"{net.name}: top-1 in percent; + dense, small dots all of Torch-Pruning re-estimated"
    parts.append(f'<text x="{LEFT}" y="20">{title}</text>')
    for i, label in enumerate(lines):
        x, y = LEFT + 270 * (i % 3), TOP + PANEL_HEIGHT + 62 + 18 * (i // 3)
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{SERIES[label]}"/>')
        parts.append(f'<text x="{x + 10}" y="{y}">{label}</text>')
    style = (
        "text{font:12px sans-serif;fill:#333}.m{text-anchor:middle}.e{text-anchor:end}"
        ".g{stroke:#e4e4e4}.l{fill:none;stroke-width:2}.d{stroke:#111;stroke-width:2}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, f"<style>{style}</style>", ground, *parts, "</svg>", ""])
