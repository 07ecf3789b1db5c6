"""Small charts as SVG text. Colours and type come from the page's style sheet; every text is escaped.

Each function returns one complete ``<svg>`` with a title for screen readers. Widths and heights are in units of the
view box, which the page scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from tunesmith.evaluation.calibration import ReliabilityBin
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.metrics import Metric

Points = Sequence[tuple[float, float]]
MAX_POINTS = 300
WIDTH, HEIGHT = 380, 240  # about that of a phone, where type should stay as large as it is
CHARACTER = 6.6  # mean width of a character at 12 units


def line_chart(lines: Mapping[str, Points], heading: str, percent: bool = False) -> Markup:
    """Named curves by step, told apart by colour and dash; their points are (x, y) in order of x."""
    x_at, y_at, parts = _frame([point for points in lines.values() for point in points], "step", percent=percent)
    cursor = 48.0
    for index, (name, points) in enumerate(lines.items(), start=1):
        drawn = [(x_at(x), y_at(y)) for x, y in _thinned(points)]
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in drawn)
        parts.append(_tag("path", class_=f"curve c{index}", d=path))
        if len(drawn) <= 30:
            parts += [_tag("circle", class_=f"fill c{index}", cx=x, cy=y, r=2.6) for x, y in drawn]
        parts.append(_tag("path", class_=f"curve c{index}", d=f"M{cursor:.1f} 14 h20"))
        parts.append(_text(cursor + 26, 18, name, "legend"))
        cursor += 26 + CHARACTER * len(name) + 22
    return _svg(WIDTH, HEIGHT, heading, parts)


def _frame(
    points: Points, x_label: str, y_label: str = "", percent: bool = False
) -> tuple[Callable[[float], float], Callable[[float], float], list[Markup]]:
    """Where x and y lie in a picture, and its grid, ticks and labels."""
    width, height, left, right, top, bottom = WIDTH, HEIGHT, 48, 12, 34, 40
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_ticks, x_ticks = _ticks(min(ys), max(ys)), _ticks(min(xs), max(xs), 6)
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys))

    def x_at(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    def y_at(y: float) -> float:
        return height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)

    parts: list[Markup] = []
    for tick in y_ticks:
        parts.append(_line(left, y_at(tick), width - right, y_at(tick), "grid"))
        parts.append(_text(left - 8, y_at(tick) + 4, _number(tick, percent), "tick", "end"))
    for tick in (tick for tick in x_ticks if x_low <= tick <= x_high):
        parts.append(_text(x_at(tick), height - bottom + 18, f"{tick:,g}", "tick", "middle"))
    parts.append(_text((left + width - right) / 2, height - 4, x_label, "axis", "middle"))
    parts += [_text(left, 18, y_label, "axis")] if y_label else []
    return x_at, y_at, parts


def interval_bars(scores: Mapping[str, Score], metric: Metric) -> Markup:
    """A dot for each score of one metric and a bar for its interval, on one scale; the first one stands out."""
    percent, step, top, bottom = metric.is_proportion, 44, 4, 30
    height = top + step * len(scores) + bottom
    low, high = min(score.low for score in scores.values()), max(score.high for score in scores.values())
    ticks = _ticks(low, high)
    low, high = min(ticks[0], low), max(ticks[-1], high)

    def x_at(value: float) -> float:
        return 20 + (value - low) / (high - low) * (WIDTH - 40)

    parts: list[Markup] = []
    for tick in ticks:
        parts.append(_line(x_at(tick), top, x_at(tick), height - bottom, "grid"))
        parts.append(_text(x_at(tick), height - bottom + 18, _number(tick, percent), "tick", "middle"))
    for index, (name, score) in enumerate(scores.items()):
        y, style, label = top + step * index, "c0" if index else "c1", "label" if index else "label main"
        value = score.text(metric)
        parts.append(_text(0, y + 14, _cut(name, int((WIDTH - 20) / CHARACTER) - len(value)), label))
        parts.append(_text(WIDTH, y + 14, value, label, "end"))
        parts.append(_line(x_at(score.low), y + 28, x_at(score.high), y + 28, f"whisker {style}"))
        parts.append(_tag("circle", class_=f"dot {style}", cx=x_at(score.value), cy=y + 28, r=5.5))
    return _svg(WIDTH, height, f"{metric.title} with 95 % intervals", parts)


def confusion_matrix(counts: NDArray[np.integer], labels: Sequence[str]) -> Markup:
    """Rows are the true labels, columns the predicted ones; shading is the share of the row."""
    size, shown = len(labels), [_cut(label, 22) for label in labels]
    margin = 12 + CHARACTER * max(map(len, shown))
    cell = min(58.0, max(22.0, 620 / size))
    left, top = margin + 22, 0.75 * margin + 26
    width, height = left + cell * size + 0.6 * margin, top + cell * size + 8
    turned = f"rotate(-90) translate({-(top + cell * size / 2):.1f} 12)"
    parts = [
        _text(left + cell * size / 2, 12, "predicted", "axis", "middle"),
        _tag("text", "true label", class_="axis", text_anchor="middle", transform=turned),
    ]
    for i, label in enumerate(shown):
        x, y = left + cell * (i + 0.5), top + cell * (i + 0.5)
        parts.append(_text(left - 8, y + 4, label, "label", "end"))
        parts.append(_tag("text", label, class_="label", transform=f"translate({x:.1f} {top - 8:.1f}) rotate(-45)"))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for (i, j), count in np.ndenumerate(counts):
        x, y, share = left + cell * j, top + cell * i, float(shares[i, j])
        hover = f"{labels[i]} taken for {labels[j]}: {count} ({100 * share:.1f} %)"
        place = (x + 1, y + 1, cell - 2, cell - 2)
        shade = _box(*place, f"fill {'c1' if i == j else 'c2'}", 3, 0.1 + 0.9 * share if count else 0)
        number = _text(x + cell / 2, y + cell / 2 + 4, str(count), f"count{' on' if share > 0.45 else ''}", "middle")
        parts.append(_group(hover, _box(*place, "cell", 3), shade, *([number] if count else [])))
    return _svg(width, height, "Confusion matrix: true label by predicted label", parts, shrinks=False)


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> Markup:
    """Accuracy by confidence (above; on the diagonal is ideal) and the number of rows in each bin (below)."""
    width, left, top, side, strip = WIDTH, 48, 12, 316, 50
    base, foot = top + side, top + side + 14 + strip
    largest = max(b.count for b in bins)
    parts: list[Markup] = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, x = base - tick * side, left + tick * side
        parts.append(_line(left, y, left + side, y, "grid"))
        parts.append(_text(left - 8, y + 4, _number(tick, True), "tick", "end"))
        parts.append(_text(x, foot + 18, _number(tick, True), "tick", "middle"))
    for b in (b for b in bins if b.count):
        x, w = left + b.low * side + 1, (b.high - b.low) * side - 2
        height, share, mean = b.accuracy * side, b.count / largest * strip, base - b.confidence * side
        hover = f"confidence {b.confidence:.3f}, accuracy {b.accuracy:.3f}, {b.count} rows"
        bar = _box(x, base - height, w, height, "fill c1", opacity=0.8)
        rows = _box(x, foot - share, w, max(share, 0.8), "fill c0")
        parts.append(_group(hover, bar, _line(x, mean, x + w, mean, "mark"), rows))
    parts.append(_tag("path", class_="ideal", d=f"M{left} {base} L{left + side} {top}"))
    parts.append(_line(left, foot, left + side, foot, "grid"))
    parts.append(_text(left - 8, foot - strip / 2 + 4, "rows", "tick", "end"))
    parts.append(_text(left + side / 2, foot + 38, "confidence", "axis", "middle"))
    return _svg(width, foot + 44, "Reliability: accuracy by confidence", parts)


def scatter(true: NDArray[np.floating], predicted: NDArray[np.floating]) -> Markup:
    """A dot for each pair of numbers, at most about 300 of them; on the line is ideal."""
    pairs = _thinned(sorted(zip(true.tolist(), predicted.tolist(), strict=True)))
    low, high = min(map(min, pairs)), max(map(max, pairs))
    x_at, y_at, parts = _frame([*pairs, (low, low), (high, high)], "target", "prediction")
    parts.append(_tag("path", class_="ideal", d=f"M{x_at(low):.1f} {y_at(low):.1f} L{x_at(high):.1f} {y_at(high):.1f}"))
    parts += [_tag("circle", class_="fill c1", cx=x_at(x), cy=y_at(y), r=2.6, fill_opacity=0.6) for x, y in pairs]
    return _svg(WIDTH, HEIGHT, "Prediction by target", parts)


def label_bars(labels: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Markup:
    """Rows of each label in each split as horizontal bars, as shares of the split."""
    thin, top, longest = 11, 30, WIDTH - 60
    step = 18 + thin * len(counts) + 8
    table = np.array(list(counts.values()))
    lengths = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    lengths *= longest / lengths.max()
    parts: list[Markup] = []
    cursor = 0.0
    for index, name in enumerate(counts, start=1):
        parts.append(_box(cursor, 6, 12, 12, f"fill c{index}", 2))
        parts.append(_text(cursor + 18, 16, name, "legend"))
        cursor += 18 + CHARACTER * len(name) + 22
    for i, label in enumerate(labels):
        parts.append(_text(0, top + step * i + 13, _cut(label, int(WIDTH / CHARACTER)), "label"))
        for s, (length, count) in enumerate(zip(lengths[:, i].tolist(), table[:, i].tolist(), strict=True)):
            y = top + step * i + 18 + thin * s
            parts.append(_box(0, y, max(length, 1), thin - 1, f"fill c{s + 1}", 1.5))
            parts.append(_text(length + 6, y + 9, f"{count:,}", "small"))
    return _svg(WIDTH, top + step * len(labels), "Labels by split", parts)


def _svg(width: float, height: float, heading: str, parts: Sequence[Markup], shrinks: bool = True) -> Markup:
    content = Markup("").join([_tag("title", heading), *parts])
    # The page may shrink a chart, but type should never be blown up: the width is also the largest one.
    style = f"{'max-width' if shrinks else 'width'}:{width:.0f}px"
    return _tag("svg", content, viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=heading, style=style)


def _tag(name: str, content: str = "", **attributes: str | float) -> Markup:
    """An element, text and attribute values escaped; ``class_`` gives ``class``, ``text_anchor`` ``text-anchor``."""
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), round(v, 2) if isinstance(v, float) else v)
        for key, v in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), pairs, escape(content))


def _text(x: float, y: float, content: str, style: str, anchor: str = "start") -> Markup:
    return _tag("text", content, class_=style, x=float(x), y=float(y), text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return _tag("line", class_=style, x1=x1, y1=y1, x2=x2, y2=y2)


def _box(x: float, y: float, width: float, height: float, style: str, rx: float = 0, opacity: float = 1) -> Markup:
    return _tag("rect", class_=style, x=x, y=y, width=width, height=height, rx=rx, fill_opacity=opacity)


def _group(hover: str, *parts: Markup) -> Markup:
    return _tag("g", Markup("").join([_tag("title", hover), *parts]))


def _cut(text: str, limit: int) -> str:
    """The text, its middle left out where it is too long: the ends tell names with common beginnings apart."""
    start = (limit - 1) * 3 // 5
    return text if len(text) <= limit else f"{text[:start]}…{text[len(text) - limit + 1 + start :]}"


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:g} %" if percent and value < 1e4 else f"{value:g}"


def _thinned(points: Points) -> Points:
    """At most about `MAX_POINTS` of the points, evenly spaced, the last one among them."""
    stride = math.ceil(len(points) / MAX_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from just below `low` to just above `high`."""
    span = high - low or abs(high) / 10 or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * wanted >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    first = min(first, last - 1)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]
