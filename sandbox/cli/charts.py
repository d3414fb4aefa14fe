"""Figures in characters, beside or below the numbers; in plain ASCII where the terminal cannot do more."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandbox.client.figures import Figure, Mark, Scale, Shape, day_of, scale_of

WIDTH = 32
LINE_WIDTH, LINE_HEIGHT = 64, 12


@dataclass(frozen=True)
class Glyphs:
    """The characters of a drawing: a bar and the eighths of its end, an interval, the zero line, shades from light."""

    full: str
    eighths: str
    start: str
    dash: str
    value: str
    end: str
    zero: str
    shades: str


UNICODE = Glyphs("█", "▏▎▍▌▋▊▉", "├", "─", "┼", "┤", "│", " ░▒▓█")
ASCII = Glyphs("#", "", "|", "-", "+", "|", ":", " .:*#")


def glyphs_of(console: Console) -> Glyphs:
    """What this terminal can show."""
    return ASCII if console.options.ascii_only or console.is_dumb_terminal else UNICODE


def interval_bar(mark: Mark, scale: Scale, glyphs: Glyphs = UNICODE, width: int = WIDTH) -> str:
    """The value as a bar from zero, its interval as `├──┼──┤` over it where that is two cells wide or more."""
    if mark.value is None or mark.low is None or mark.high is None:
        return ""
    zero, at = scale.part(Decimal(0)) * width, scale.part(mark.value) * width
    line = [" "] * width
    first, last = sorted((round(zero), int(at) if at > zero else round(at)))
    line[first:last] = [glyphs.full] * (last - first)
    eighth = int((at - int(at)) * 8)
    if at > zero and eighth and glyphs.eighths:
        line[int(at)] = glyphs.eighths[eighth - 1]
    if scale.low < 0:
        line[_cell(zero, width)] = glyphs.zero
    low, high = scale.part(mark.low) * width, scale.part(mark.high) * width
    if high - low >= 2:
        start, end = _cell(low, width), _cell(high, width)
        line[start : end + 1] = [glyphs.start, *[glyphs.dash] * (end - start - 1), glyphs.end]
        line[_cell(at, width)] = glyphs.value
    return "".join(line).rstrip()


def _cell(place: float, width: int) -> int:
    return min(max(int(place), 0), width - 1)


def interval_bars(marks: list[Mark], glyphs: Glyphs = UNICODE, width: int = WIDTH) -> list[str]:
    """One bar per mark, all on one scale."""
    scale = scale_of(marks)
    return [interval_bar(mark, scale, glyphs, width) for mark in marks]


def draw(console: Console, figure: Figure) -> None:
    """The figures that need lines of their own: a line over days, a field of two keys. Bars stand in the table."""
    glyphs = glyphs_of(console)
    if figure.shape is Shape.LINE:
        for line in day_lines(figure, glyphs, max(min(LINE_WIDTH, console.width - 16), 16)):
            console.print(Text(line))
    elif figure.shape is Shape.HEAT:
        console.print(heat_table(figure, glyphs))


def day_lines(figure: Figure, glyphs: Glyphs = UNICODE, width: int = LINE_WIDTH) -> list[str]:
    """Values over days with their intervals, days to scale."""
    point = "●" if glyphs is UNICODE else "o"
    scale, days = scale_of(figure.marks), [day_of(mark.keys[0]) for mark in figure.marks]
    known = [day for day in days if day is not None]
    first, span = min(known), max((max(known) - min(known)).days, 1)
    field = [[" "] * width for _ in range(LINE_HEIGHT)]
    for mark, day in zip(figure.marks, days, strict=True):
        if mark.value is None or mark.low is None or mark.high is None or day is None:
            continue
        column = round((day - first).days / span * (width - 1))
        for row in range(_row(scale, mark.high), _row(scale, mark.low) + 1):
            if field[row][column] == " ":
                field[row][column] = glyphs.zero
        field[_row(scale, mark.value)][column] = point
    labels = {_row(scale, tick): f"{tick.normalize():,f}" for tick in scale.ticks(LINE_HEIGHT // 3)}
    margin = max(len(label) for label in labels.values())
    title = f"{figure.measure} ({figure.unit})" if figure.unit else figure.measure
    lines = [title]
    for number, characters in enumerate(field):
        lines.append(f"{labels.get(number, ''):>{margin}} {glyphs.zero}{''.join(characters)}".rstrip())
    ends = (first.isoformat(), max(known).isoformat())
    return [*lines, " " * (margin + 2) + ends[0] + ends[1].rjust(width - len(ends[0]))]


def _row(scale: Scale, value: Decimal) -> int:
    place = scale.part(value)
    return round((1 - place) * (LINE_HEIGHT - 1))


def heat_table(figure: Figure, glyphs: Glyphs = UNICODE) -> Table:
    """Rows by the first key, columns by the second; a shade and the number in every cell."""
    scale = scale_of(figure.marks)
    columns = list(dict.fromkeys(mark.keys[1] for mark in figure.marks))
    cells = {mark.keys: _shaded(mark, scale, glyphs) for mark in figure.marks}
    table = Table(title=f"{figure.measure} ({figure.unit})", title_justify="left", header_style="bold")
    table.add_column(f"{figure.keys[0]} \\ {figure.keys[1]}")
    for name in columns:
        table.add_column(name, justify="right")
    for outer in dict.fromkeys(mark.keys[0] for mark in figure.marks):
        table.add_row(outer, *(cells.get((outer, inner), "") for inner in columns))
    return table


def _shaded(mark: Mark, scale: Scale, glyphs: Glyphs) -> str:
    if mark.value is None:
        return "—" if glyphs is UNICODE else "-"
    level = min(int(scale.part(mark.value) * len(glyphs.shades)), len(glyphs.shades) - 1)
    return f"{glyphs.shades[level] * 2} {mark.value:f}"


def spent_bar(spent: float, asked: float, glyphs: Glyphs = UNICODE, width: int = WIDTH) -> str:
    """A budget as a bar: what is spent, what would be added (a cell of it at least), and what would be left."""
    used = min(round(spent * width), width)
    now = min(max(round(asked * width), 1 if asked else 0), width - used)
    left = "·" if glyphs is UNICODE else "."
    return glyphs.full * used + glyphs.shades[2] * now + left * (width - used - now)
