"""Draw the charts of docs/benchmarks.md from its tables, as SVG: the figures stand in one place.

python docs/make_charts.py
"""

import re
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_name("benchmarks.md")
IMAGES = PAGE.with_name("images")
COLORS = "#d55e00", "#0072b2", "#009e73", "#999999"  # Okabe and Ito's, which colour-blind people can tell apart
PALE = "#9ecae1"  # of models without training
WIDTH, LEFT, RIGHT, ROW = 800, 240, 56, 26  # pixels of the drawing
Scale = Callable[[float], float]  # from a value to x in pixels


class Chart(NamedTuple):
    """A chart with horizontal rows.

    Attributes:
        title: what the values are.
        rows: label of a row, and its value in each series.
        series: names of the series, in the order of the colours.
        limit: value at the right edge.
        step: distance of two lines of the scale.
        bars: draw a bar for the first series; otherwise a dot for every series.
        digits: number of digits after the point, in the figures beside bars.
    """

    title: str
    rows: Mapping[str, Mapping[str, float]]
    series: tuple[str, ...]
    limit: float
    step: float
    bars: bool
    digits: int


def table(header: str) -> list[dict[str, str]]:
    """Read the rows of the page's table whose first line starts with `header`, without bold type and backticks."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (begin, *more) = [i for i, line in enumerate(lines) if line.startswith(f"| {header}")] or [-1]
    if begin < 0 or more:
        raise ValueError(f"{PAGE.name} has {len(more) + (begin >= 0)} tables that begin with {header}; expected one")
    names = _cells(lines[begin])
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(names, _cells(line), strict=True)))
    return rows


def _cells(line: str) -> list[str]:
    return [re.sub(r"[`*]", "", cell).strip() for cell in line.strip().strip("|").split("|")]


def charts() -> dict[str, Chart]:
    """Collect the charts by the names of their files."""
    scores = {f"{row['model']}, {row['protocol']}": {"J&F": float(row["J&F"])} for row in table("model | protocol | J&F |")}
    each = [row for row in table("sequence | frames |") if row["sequence"] != "mean"]
    shown = {"vits8": "vits8, best", "vitt8d6-features": "vitt8d6-features, best", "vitt8d6": "vitt8d6, best"}
    shown["raw colours"] = "raw colours, best"
    sequences = {row["sequence"]: {name: float(row[column]) for name, column in shown.items()} for row in each}
    frames = {
        row["contestant"].partition(" (")[0]: {"seconds": float(row["s a frame"])} for row in table("contestant | s a frame |")
    }
    slowest = max(value["seconds"] for value in frames.values())
    return {
        "chart-models": Chart("J&F on ten sequences of DAVIS-2016", _sorted(scores), ("J&F",), 100, 20, True, 1),
        "chart-sequences": Chart("J of each sequence, best protocol", sequences, tuple(shown), 1, 0.2, False, 2),
        "chart-frames": Chart(
            "Seconds a frame of 480 x 854 on one core of a CPU",
            _sorted(frames, False),
            ("seconds",),
            slowest * 1.05,
            1,
            True,
            2,
        ),
    }


def _sorted(rows: Mapping[str, Mapping[str, float]], down: bool = True) -> dict[str, Mapping[str, float]]:
    return dict(sorted(rows.items(), key=lambda row: next(iter(row[1].values())), reverse=down))


def draw(chart: Chart) -> str:
    """Return the chart as an SVG file."""
    top = 40 if chart.bars else 64
    bottom = top + ROW * len(chart.rows)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / chart.limit, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" font-family="sans-serif" font-size="13">',
        f"<title>{escape(chart.title)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(chart.title)}</text>',
    ]
    for index in range(int(chart.limit / chart.step + 1e-9) + 1):
        value = index * chart.step
        parts.append(f'<path d="M{x(value)} {top}V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(value)}" y="{bottom + 18}" text-anchor="middle" fill="#555">{value:g}</text>')
    if not chart.bars:
        parts += _legend(chart.series)
    for number, (label, values) in enumerate(chart.rows.items()):
        y = top + ROW * number + ROW / 2
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4:g}" text-anchor="end">{escape(label)}</text>')
        parts += _bar(chart, x, y, label, values) if chart.bars else _dots(chart, x, y, values)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(series: Iterable[str]) -> list[str]:
    return [
        f'<circle cx="{LEFT + 150 * index + 6}" cy="46" r="6" fill="{color}"/>'
        f'<text x="{LEFT + 150 * index + 17}" y="50">{escape(name)}</text>'
        for index, (name, color) in enumerate(zip(series, COLORS, strict=False))
    ]


def _bar(chart: Chart, x: Scale, y: float, label: str, values: Mapping[str, float]) -> list[str]:
    value = values[chart.series[0]]
    color = PALE if "untrained" in label else COLORS[0] if "vits8" in label else COLORS[1] if "vitt8d6" in label else COLORS[3]
    bar = f'<rect x="{LEFT}" y="{y - 9:g}" width="{x(value) - LEFT:g}" height="18" fill="{color}"/>'
    return [bar, f'<text x="{x(value) + 6:g}" y="{y + 4:g}">{value:.{chart.digits}f}</text>']


def _dots(chart: Chart, x: Scale, y: float, values: Mapping[str, float]) -> list[str]:
    low, high = x(min(values.values())), x(max(values.values()))
    dots = [
        f'<circle cx="{x(values[name])}" cy="{y:g}" r="6" fill="{color}"/>'
        for name, color in reversed(list(zip(chart.series, COLORS, strict=False)))
    ]
    return [f'<path d="M{low} {y:g}H{high}" stroke="#bbb" stroke-width="2"/>', *dots]


if __name__ == "__main__":
    for name, chart in charts().items():
        (IMAGES / f"{name}.svg").write_text(draw(chart), encoding="utf-8")
        print(f"{IMAGES.name}/{name}.svg")
