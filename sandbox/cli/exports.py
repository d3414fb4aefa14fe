"""A released table for other programs: its variances, a CSV file, an SVG file. Written whole or not at all."""

from __future__ import annotations

import csv
import io
import re
import secrets
from decimal import Decimal
from pathlib import Path

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import DPTable, Receipt
from sandbox.cli.tables import notes_of
from sandbox.client.figures import figure_of, visible
from sandbox.client.svg import Caption, svg_of

NORMAL_95 = Decimal("1.959964")  # 97.5 % quantile of the standard normal law
LAPLACE_95 = Decimal("2.995732")  # ln 20: in scales of a Laplace law
NUMBER = re.compile(r"-?\d+(\.\d+)?")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def variances_of(release: DPTable) -> list[list[str | None]]:
    """The variance of every cell, row by row, as decimal text; None where its interval is not known.

    It is read back from the half width: (half width / 1.959964)² under Gaussian noise and 2·(half width / ln 20)² under
    Laplace noise. For values that are computed from noisy ones (a mean, a quantile) it is the variance of the normal
    law with that interval.
    """
    factor = 2 / LAPLACE_95**2 if release.noise == "laplace" else 1 / NORMAL_95**2
    return [
        [None if width is None else _plain(Decimal(width) ** 2 * factor) for width in row] for row in release.widths
    ]


def _plain(value: Decimal) -> str:
    return f"{value:.10g}" if value.adjusted() < 10 else f"{value.to_integral_value():f}"


def csv_of(release: DPTable) -> bytes:
    """RFC 4180 in UTF-8 with a byte order mark (spreadsheets ask for it): keys, and each measure beside its half width.

    An empty cell is a rolled-up key or an unknown number. A text that a spreadsheet would compute gets a `'` before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = [column for measure in release.measures for column in (measure.name, f"{measure.name}_half_width")]
    writer.writerow([inert(visible(name)) for name in (*release.keys, *names)])
    for row, widths in zip(release.rows, release.widths, strict=True):
        keys, values = row[: len(release.keys)], row[len(release.keys) :]
        pairs = [cell for pair in zip(values, widths, strict=True) for cell in pair]
        texts = ["" if key is None else inert(visible(key)) for key in keys]
        writer.writerow([*texts, *(number_cell(cell) for cell in pairs)])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text


def number_cell(text: str | None) -> str:
    """A number as it is; anything else is a text."""
    return "" if text is None else text if NUMBER.fullmatch(text) else inert(text)


def chart_of(release: DPTable, receipt: Receipt, measure: str | None = None, title: str | None = None) -> bytes:
    """The figure of one measure as SVG, with the loss, the clip and the receipt below it.

    Raises:
        ValueError: as `figure_of` does.
    """
    figure = figure_of(release, measure)
    by = " × ".join(figure.keys)
    heading = title or (f"{figure.measure} · {by}" if by else figure.measure)
    description = (
        f"{figure.measure} by {by or 'nothing'}, {len(figure.marks)} values, each with the 95 % interval of its "
        f"differential-privacy noise; ε = {release.epsilon}, δ = {release.delta}."
    )
    notes = (*notes_of(release), f"回执 / receipt {receipt.receipt_id}")
    return svg_of(figure, Caption(heading, description, notes))


def check_target(path: Path) -> Path:
    """The path, if a file can be put there; asked before anything is spent.

    Raises:
        Failed: `file.unwritable`.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise Failed("file.unwritable")
    return path


def write_file(path: Path, content: bytes) -> None:
    """Put the file there, whole or not at all.

    Raises:
        Failed: `file.unwritable`.
    """
    draft = check_target(path).with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise Failed("file.unwritable") from None
