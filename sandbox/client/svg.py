"""Figures as one self-contained SVG file: no script, no reference to anything outside, readable in light and dark.

Every text goes in through the XML writer, so that markup in a key stays text. Each mark has its own title, which screen
readers read and browsers show; numbers stand beside the marks, so that nothing is told by colour alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, tostring

from sandbox.client.figures import Figure, Mark, Scale, Shape, day_of, scale_of, told, visible

WIDTH, MARGIN, ROW, FONT = 760, 16, 24, 13
PLOT_HEIGHT = 260
MAX_LABEL = 220
MAX_ROWS = 400  # a page of some 10 000 pixels; the note says what is not on it
STYLE = """
svg { color: #1a1a1a; background: #ffffff; font: 13px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif; }
text { fill: currentColor; } .title { font-size: 16px; font-weight: 600; } .note { font-size: 11px; opacity: .8; }
.group { font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.mark { fill: #4a8fc4; } .line { stroke: #4a8fc4; stroke-width: 2; fill: none; } .band { fill: #4a8fc4; opacity: .2; }
.error, .axis { stroke: currentColor; stroke-width: 1.5; fill: none; } .grid { stroke: currentColor; opacity: .15; }
@media (prefers-color-scheme: dark) {
  svg { color: #ececec; background: #161616; }
  .mark, .band { fill: #3f7fb0; } .line { stroke: #3f7fb0; }
}
"""


# Inside a page of somebody else: nothing but what carries our class is styled, and colours come from that page.
EMBEDDED = """
.yunei-figure { max-width: none; font: 13px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif; }
.yunei-figure text { fill: currentColor; } .yunei-figure .title { font-size: 16px; font-weight: 600; }
.yunei-figure .note { font-size: 11px; opacity: .8; } .yunei-figure .group { font-weight: 600; }
.yunei-figure .end { text-anchor: end; } .yunei-figure .middle { text-anchor: middle; }
.yunei-figure .mark { fill: var(--jp-brand-color1, #4a8fc4); fill-opacity: .75; }
.yunei-figure .line { stroke: var(--jp-brand-color1, #4a8fc4); stroke-width: 2; fill: none; }
.yunei-figure .band { fill: var(--jp-brand-color1, #4a8fc4); opacity: .2; }
.yunei-figure .error, .yunei-figure .axis { stroke: currentColor; stroke-width: 1.5; fill: none; }
.yunei-figure .grid { stroke: currentColor; opacity: .15; }
"""


@dataclass(frozen=True)
class Caption:
    """The words of a figure: title, what it shows in one sentence, and the notes below it."""

    title: str
    description: str
    notes: tuple[str, ...]


def svg_of(figure: Figure, caption: Caption) -> bytes:
    """The figure as an SVG 1.1 document in UTF-8; at most the first 400 marks of it."""
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    root.set("aria-labelledby", "title desc")
    SubElement(root, "title", id="title").text = visible(caption.title)
    SubElement(root, "desc", id="desc").text = visible(caption.description)
    _draw(root, figure, caption, STYLE)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def embedded_svg(figure: Figure, caption: Caption) -> str:
    """The same figure as an element of an HTML page: no ids, no rule that reaches beyond it, colours of the page."""
    root = Element("svg", {"class": "yunei-figure", "role": "img", "aria-label": visible(caption.description)})
    _draw(root, figure, caption, EMBEDDED)
    return tostring(root, encoding="unicode")


def _draw(root: Element, figure: Figure, caption: Caption, style: str) -> None:
    SubElement(root, "style").text = style
    _text(root, MARGIN, MARGIN + 14, caption.title, "title")
    drawers = {Shape.BARS: _bars, Shape.LINE: _line, Shape.HEAT: _heat}
    width, bottom = drawers[figure.shape](root, figure, MARGIN + 36)
    notes = caption.notes
    if len(figure.marks) > MAX_ROWS and figure.shape is Shape.BARS:
        notes = (f"前 {MAX_ROWS} 行，共 {len(figure.marks)} 行 / first {MAX_ROWS} of {len(figure.marks)} rows", *notes)
    for number, note in enumerate(notes):
        _text(root, MARGIN, bottom + 20 + 16 * number, note, "note")
    height = bottom + 20 + 16 * len(notes) + MARGIN
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("width", str(width))
    root.set("height", str(height))


def _text(parent: Element, x: float, y: float, text: str, kind: str = "") -> None:
    element = SubElement(parent, "text", x=_number(x), y=_number(y))
    if kind:
        element.set("class", kind)
    element.text = visible(text)


def _line_of(parent: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    SubElement(parent, "path", {"class": kind, "d": f"M{_number(x1)} {_number(y1)}L{_number(x2)} {_number(y2)}"})


def _marked(parent: Element, name: str, mark: Mark) -> Element:
    group = SubElement(parent, "g")
    SubElement(group, "title").text = f"{name}: {told(mark)}"
    return group


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _room(texts: Sequence[str]) -> float:
    """About how wide the longest of these is; a wide (Chinese) character counts for two."""
    wide = (sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text) for text in texts)
    return max(wide, default=0) * FONT * 0.6


def _shortened(text: str, room: float) -> str:
    while len(text) > 1 and _room([text]) > room:
        text = text[:-2] + "…"
    return text


def _axis_title(figure: Figure) -> str:
    return f"{figure.measure} ({figure.unit})" if figure.unit else figure.measure


def _bars(root: Element, figure: Figure, top: float) -> tuple[float, float]:
    """Bars one below the other, those of one outer key under its heading; value and interval beside each."""
    marks = figure.marks[:MAX_ROWS]
    scale, is_nested = scale_of(marks), len(figure.keys) > 1
    labels = [mark.keys[-1] if mark.keys else "" for mark in marks]
    left = MARGIN + min(_room(labels), MAX_LABEL) + 10
    right = WIDTH - MARGIN - _room([told(mark) for mark in marks]) - 10
    right = max(right, left + 120)
    _text(root, MARGIN, top, " · ".join(figure.keys), "note")
    top += 10
    y = top
    body = SubElement(root, "g")
    for outer, members in groupby(marks, key=lambda mark: mark.keys[:-1]):
        if is_nested:
            _text(root, MARGIN, y + 16, " · ".join(outer), "group")
            y += ROW
        for mark in members:
            _bar(root, mark, scale, (left, right), y)
            y += ROW
    _value_axis(body, figure, scale, (left, right), (top, y))
    return WIDTH, y + 40


def _bar(root: Element, mark: Mark, scale: Scale, span: tuple[float, float], y: float) -> None:
    left, right = span
    group = _marked(root, " · ".join(mark.keys), mark)
    label = _shortened(mark.keys[-1] if mark.keys else "", MAX_LABEL)
    _text(group, left - 8, y + 16, label, "end")
    _text(group, right + 10, y + 16, told(mark))
    if mark.value is None or mark.low is None or mark.high is None:
        return
    zero, at, low, high = (
        left + scale.part(value) * (right - left) for value in (Decimal(0), mark.value, mark.low, mark.high)
    )
    box = {"x": _number(min(zero, at)), "y": _number(y + 4), "width": _number(abs(at - zero)), "height": str(ROW - 8)}
    SubElement(group, "rect", {"class": "mark", **box})
    if mark.half_width is not None:
        _line_of(group, "error", low, y + ROW / 2, high, y + ROW / 2)
        for end in (low, high):
            _line_of(group, "error", end, y + 7, end, y + ROW - 7)


def _value_axis(
    body: Element, figure: Figure, scale: Scale, span: tuple[float, float], rows: tuple[float, float]
) -> None:
    (left, right), (top, bottom) = span, rows
    for tick in scale.ticks():
        x = left + scale.part(tick) * (right - left)
        _line_of(body, "axis" if tick == 0 else "grid", x, top, x, bottom + 4)
        _text(body, x, bottom + 18, f"{tick:,f}", "middle")
    _text(body, (left + right) / 2, bottom + 36, _axis_title(figure), "middle")


def _line(root: Element, figure: Figure, top: float) -> tuple[float, float]:
    """A line over days with the band of its intervals; it is broken where noise left no value."""
    scale = scale_of(figure.marks)
    found = [(day_of(mark.keys[0]), mark) for mark in figure.marks]
    dated = sorted(((day, mark) for day, mark in found if day is not None), key=lambda pair: pair[0])
    ticks = scale.ticks()
    left, right, bottom = MARGIN + _room([f"{tick:,f}" for tick in ticks]) + 14, WIDTH - MARGIN - 40, top + PLOT_HEIGHT
    first, span = dated[0][0], max((dated[-1][0] - dated[0][0]).days, 1)
    for tick in ticks:
        y = bottom - scale.part(tick) * PLOT_HEIGHT
        _line_of(root, "axis" if tick == 0 else "grid", left, y, right, y)
        _text(root, left - 6, y + 4, f"{tick:,f}", "end")
    points = [(left + (day - first).days / span * (right - left), mark) for day, mark in dated]
    for is_known, run in groupby(points, key=lambda point: point[1].value is not None):
        if is_known:
            _run(root, list(run), scale, bottom)
    for day, x in ((dated[0][0], left), (dated[-1][0], right)):
        _text(root, x, bottom + 20, day.isoformat(), "middle")
    _text(root, (left + right) / 2, bottom + 36, f"{_axis_title(figure)} · {figure.keys[0]}", "middle")
    return WIDTH, bottom + 40


def _run(root: Element, points: list[tuple[float, Mark]], scale: Scale, bottom: float) -> None:
    def at(x: float, value: Decimal | None) -> str:
        return f"{_number(x)} {_number(bottom - scale.part(value or Decimal(0)) * PLOT_HEIGHT)}"

    edge = [at(x, mark.high) for x, mark in points] + [at(x, mark.low) for x, mark in reversed(points)]
    SubElement(root, "path", {"class": "band", "d": f"M{'L'.join(edge)}Z"})
    SubElement(root, "path", {"class": "line", "d": f"M{'L'.join(at(x, mark.value) for x, mark in points)}"})
    for x, mark in points:
        group = _marked(root, mark.keys[0], mark)
        cx, cy = at(x, mark.value).split()
        SubElement(group, "circle", {"class": "mark", "cx": cx, "cy": cy, "r": "3.5"})


def _heat(root: Element, figure: Figure, top: float) -> tuple[float, float]:
    """A field of cells, rows by the first key; the number stands in each, the depth of the shade repeats it."""
    scale = scale_of(figure.marks)
    rows, columns = (list(dict.fromkeys(mark.keys[at] for mark in figure.marks)) for at in (0, 1))
    left = MARGIN + min(_room(rows), MAX_LABEL) + 10
    cell = max(_room([told(mark) for mark in figure.marks]), min(_room(columns), 120), 40) + 10
    heading = f"{figure.keys[0]} ↓ · {figure.keys[1]} → · {_axis_title(figure)}"
    _text(root, MARGIN, top + 4, heading, "group")
    top += 28
    for number, name in enumerate(columns):
        _text(root, left + cell * (number + 0.5), top, _shortened(name, cell - 4), "middle")
    for number, name in enumerate(rows):
        _text(root, left - 8, top + 8 + ROW * number + 16, _shortened(name, MAX_LABEL), "end")
    for mark in figure.marks:
        x, y = left + cell * columns.index(mark.keys[1]), top + 8 + ROW * rows.index(mark.keys[0])
        group = _marked(root, " · ".join(mark.keys), mark)
        depth = 0.0 if mark.value is None else 0.05 + 0.4 * scale.part(mark.value)
        box = {"x": _number(x), "y": _number(y), "width": _number(cell - 2), "height": str(ROW - 2)}
        SubElement(group, "rect", {"class": "mark", "opacity": f"{depth:.2f}", **box})
        _text(group, x + cell / 2, y + 15, told(mark), "middle")
    return max(WIDTH, left + cell * len(columns) + MARGIN), top + 8 + ROW * len(rows)
