"""A released table as people read it: every number with its 95 % interval, and below what it cost and what it lost."""

from __future__ import annotations

from decimal import Decimal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from enclave_runner.contract.receipt import Clip, DPTable, Receipt
from sandbox.cli.charts import WIDTH, draw, glyphs_of, interval_bars
from sandbox.client.figures import ALL, Shape, figure_of, shortened, visible

UNKNOWN = "—"
LAWS = {"gaussian": "离散高斯 / discrete Gaussian", "laplace": "离散拉普拉斯 / discrete Laplace"}


def show_release(console: Console, release: DPTable) -> None:
    """The table, a figure of its first measure, and the notes."""
    console.print(dp_table(console, release))
    for note in notes_of(release):
        console.print(Text(note))
    if release.measures:
        draw(console, figure_of(release))


def dp_table(console: Console, release: DPTable) -> Table:
    """The numbers, aligned; `± half width` in the head of a column where it is one for all, else beside each value."""
    table = Table(header_style="bold")
    for name in release.keys:
        table.add_column(visible(name))
    columns = [_column(release, index) for index in range(len(release.measures))]
    for head, _ in columns:
        table.add_column(Text(head, justify="right"), overflow="fold")
    bars = _bars_beside(console, release)
    if any(bars):
        table.add_column("")
    for number, row in enumerate(release.rows):
        keys = [visible(key) for key in row[: len(release.keys)]]
        table.add_row(*keys, *(cells[number] for _, cells in columns), *([bars[number]] if any(bars) else []))
    return table


def _column(release: DPTable, index: int) -> tuple[str, list[str]]:
    """The head of a measure's column, in two lines, and its cells, all of one width (a terminal keeps their places)."""
    measure = release.measures[index]
    values = [row[len(release.keys) + index] for row in release.rows]
    widths = [row[index] for row in release.widths]
    shown = _aligned([UNKNOWN if value is None else shortened(value) for value in values])
    below = f"[{visible(measure.unit)}]" if measure.unit else ""
    reach = {width for width, value in zip(widths, values, strict=True) if value is not None}
    if reach in ({measure.half_width}, {None}):
        below = f"{below} ± {measure.half_width or '?'}".strip()
    elif reach:
        beside = _aligned(["" if value is None else width or "?" for width, value in zip(widths, values, strict=True)])
        pairs = zip(shown, beside, strict=True)
        shown = [value + (f" ± {width}" if width.strip() else " " * (len(width) + 3)) for value, width in pairs]
    head = f"{visible(measure.name)}\n{below}".strip()
    room = max(cell_len(line) for line in head.splitlines())
    return head, [cell.rjust(room) for cell in shown]


def _aligned(numbers: list[str]) -> list[str]:
    """Decimal points one below the other."""
    after = max((len(text.partition(".")[2]) + ("." in text) for text in numbers), default=0)
    padded = [text + " " * (after - len(text.partition(".")[2]) - ("." in text)) for text in numbers]
    longest = max((len(text) for text in padded), default=0)
    return [text.rjust(longest) for text in padded]


def _bars_beside(console: Console, release: DPTable) -> list[str]:
    """A bar with its interval for every row of the finest grouping; nothing where a figure of its own is drawn."""
    if len(release.rows) < 2 or not release.measures:
        return []
    figure = figure_of(release)
    if figure.shape is not Shape.BARS:
        return []
    drawn = iter(interval_bars(list(figure.marks), glyphs_of(console), min(WIDTH, console.width // 4)))
    finest = min(row[: len(release.keys)].count(None) for row in release.rows)
    return [next(drawn) if row[: len(release.keys)].count(None) == finest else "" for row in release.rows]


def notes_of(release: DPTable) -> tuple[str, ...]:
    """What the numbers mean, in lines: the interval, the loss, the noise, the clip."""
    keys = [key for row in release.rows for key in row[: len(release.keys)]]
    values = [value for row in release.rows for value in row[len(release.keys) :]]
    lines = [
        "± 95 % 区间的半宽：只含噪声，不含截断 / half of the 95 % interval: of the noise, not of the clip",
        f"损失 / loss {release.loss.text}; ε = {release.epsilon}, δ = {release.delta} · "
        f"噪声 / noise: {LAWS.get(release.noise, release.noise)}",
        clip_line(release.clip),
    ]
    if None in keys:
        lines.append(f"{ALL} 合计 / all values of the key together")
    if None in values:
        lines.append(f"{UNKNOWN} 噪声之下无法得知 / the noise leaves no value")
    if any(width is None for widths in release.widths for width in widths):
        lines.append("± ? 区间未知 / no interval is known: computed from noisy values, or a quantile")
    return tuple(lines)


def clip_line(clip: Clip | None) -> str:
    """How far one unit's contribution counts, and which share of everything that cut away."""
    if clip is None:
        return "截断 / clip: 无需 / none was needed"
    origin = "由私有直方图得出 / learned privately" if clip.learned else "取自目录 / from the catalogue"
    corrected = "; 总量已校正 / totals corrected" if clip.corrected else ""
    return f"截断 / clip: {clip.bound} ({origin}); 截去 / cut away: {_lost(clip)}{corrected}"


def _lost(clip: Clip) -> str:
    if clip.lost is None:
        return "未知 / not known"
    width = "" if clip.lost_half_width is None else f" ± {_percent(clip.lost_half_width)}"
    return f"{_percent(clip.lost)}{width} %"


def _percent(share: str) -> str:
    percent = (Decimal(share) * 100).quantize(Decimal("0.01"))
    return f"{percent.normalize() + 0:f}"


def receipt_line(receipt: Receipt, price_fen: int, legal_basis: str) -> str:
    """Under every answer: its receipt, what it spent, what it costs."""
    losses = ", ".join(loss.text for loss in receipt.losses) or "0"
    parts = [f"回执 / receipt {receipt.receipt_id} #{receipt.sequence}", f"loss {losses}"]
    if receipt.repeats is not None:
        parts.append(f"重复作答，无新损失 / repeated from {receipt.repeats}, no new privacy loss")
    return " · ".join([*parts, f"{price_fen} fen ({legal_basis})"])
