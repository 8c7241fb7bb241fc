"""A chart as SVG text: lines over two logarithmic axes, each labelled at its end. Points in, text out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 500, 340, 60, 165, 40, 44
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # told apart by all eyes
Points = Sequence[tuple[float, float]]


def svg(panels: Sequence[tuple[str, str, Mapping[str, Points]]], x: str) -> str:
    """Return panels side by side, each with its title, the unit of its y axis and its lines."""
    width = WIDTH * len(panels)
    body = "\n".join(
        f'<g transform="translate({n * WIDTH},0)">\n' + "\n".join(_panel(title, unit, x, lines)) + "\n</g>"
        for n, (title, unit, lines) in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _panel(title: str, unit: str, x: str, lines: Mapping[str, Points]) -> Iterator[str]:
    points = [point for line in lines.values() for point in line]
    x0, x1 = _decades([p[0] for p in points])
    y0, y1 = _decades([p[1] for p in points])

    def across(value: float) -> float:
        return LEFT + (math.log10(value) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    yield f'<text x="{LEFT}" y="22" font-size="13" font-weight="600">{escape(title)}</text>'
    for power in range(x0, x1 + 1):
        at = across(10**power)
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e5e5e5"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" fill="#555">{10**power:,}</text>'
    for power in range(y0, y1 + 1):
        at = up(10**power)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e5e5e5"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{10**power:g} {unit}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="#555">{escape(x)}</text>'
    labels: list[float] = []
    colors = dict(zip(lines, COLORS, strict=False))
    for name, line in sorted(lines.items(), key=lambda item: item[1][-1][1]):
        color = colors[name]
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in line)
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
        for a, b in line:
            yield f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="3" fill="{color}"><title>{a:,.0f}: {b:.3g} {unit}</title></circle>'
        y = up(line[-1][1]) + 4
        y = min(y, labels[-1] - 13) if labels else y  # lines are drawn from below: labels keep their distance
        labels.append(y)
        yield f'<text x="{across(line[-1][0]) + 8:.1f}" y="{y:.1f}" fill="{color}">{escape(name)}</text>'
