"""Bars as SVG, without a library: one colour a series, the range of the runs as a line through each bar's end."""

from dataclasses import dataclass
from html import escape
from statistics import median

WIDTH, HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 16, 56, 44
_COLOURS = ("#2f6f9f", "#e08e2b", "#5a9e5a")


@dataclass(frozen=True)
class Bar:
    """One bar: where it stands, which series it is of, and what each run gave."""

    group: str
    series: str
    values: list[float]


def bars(title: str, unit: str, all_bars: list[Bar]) -> str:
    """A drawing of bars, those of one group side by side."""
    groups = list(dict.fromkeys(bar.group for bar in all_bars))
    series = list(dict.fromkeys(bar.series for bar in all_bars))
    top = _nice(max(max(bar.values) for bar in all_bars))
    slot = (WIDTH - _LEFT - _RIGHT) / len(groups)
    shapes = [
        f'<text x="{_LEFT}" y="20" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="{HEIGHT - 8}" fill="#666">{escape(unit)}</text>',
        *_legend(series),
        *_scale(top),
    ]
    for index, group in enumerate(groups):
        members = [bar for bar in all_bars if bar.group == group]
        left = _LEFT + index * slot
        shapes.append(_text(left + slot / 2, HEIGHT - _BOTTOM + 18, group, "middle"))
        width = min(56.0, slot * 0.8 / len(members))
        start = left + (slot - width * len(members)) / 2
        for place, bar in enumerate(members):
            colour = _COLOURS[series.index(bar.series) % len(_COLOURS)]
            shapes += _bar(start + place * width, width, bar, top, colour)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def _bar(left: float, width: float, bar: Bar, top: float, colour: str) -> list[str]:
    middle = median(bar.values)
    y, centre = _y(middle, top), left + width / 2
    return [
        f'<rect x="{left + 2:.1f}" y="{y:.1f}" width="{width - 4:.1f}" '
        f'height="{HEIGHT - _BOTTOM - y:.1f}" fill="{colour}"/>',
        f'<line x1="{centre:.1f}" x2="{centre:.1f}" y1="{_y(min(bar.values), top):.1f}" '
        f'y2="{_y(max(bar.values), top):.1f}" stroke="#222"/>',
        _text(centre, _y(max(bar.values), top) - 4, _short(middle), "middle"),
    ]


def _scale(top: float) -> list[str]:
    shapes = []
    for step in range(5):
        value = top * step / 4
        y = _y(value, top)
        shapes.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        )
        shapes.append(_text(_LEFT - 8, y + 4, _short(value), "end"))
    return shapes


def _legend(series: list[str]) -> list[str]:
    if len(series) < 2:
        return []
    shapes = []
    for index, name in enumerate(series):
        left = _LEFT + index * 130
        colour = _COLOURS[index % len(_COLOURS)]
        shapes.append(f'<rect x="{left}" y="30" width="10" height="10" fill="{colour}"/>')
        shapes.append(_text(left + 15, 39, name, "start"))
    return shapes


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{escape(text)}</text>'


def _y(value: float, top: float) -> float:
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - value / top)


def _short(value: float) -> str:
    return f"{value / 1000:,.0f}k" if value >= 10_000 else f"{value:,.0f}"


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 or 10 times a power of ten, with room for a number above the bar."""
    wanted, unit = value * 1.08, 1.0
    while unit * 10 < wanted:
        unit *= 10
    return unit * next((step for step in (1, 2, 4, 6, 8, 10) if unit * step >= wanted), 10)
