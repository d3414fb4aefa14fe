"""HTML for notebooks: escaped text, no script, nothing from outside, colours of the page around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sandbox.client.figures import visible

# JupyterLab fixes the layout of tables in outputs, which clips what is wide.
STYLE = """<style>
.yunei{font:13px/1.5 system-ui,'Noto Sans','Noto Sans CJK SC',sans-serif;max-width:900px}
.yunei table{border-collapse:collapse;table-layout:auto}
.yunei td,.yunei th{padding:3px 10px;text-align:left;border-bottom:1px solid var(--jp-border-color2,#8884)}
.yunei td.n,.yunei th.n{text-align:right;font-variant-numeric:tabular-nums}
.yunei .note{color:var(--jp-ui-font-color2,currentColor);opacity:.85;font-size:12px}
.yunei svg{max-width:none;vertical-align:middle}
</style>"""


def text(value: object) -> str:
    """A value as inert HTML text."""
    return escape(visible(str(value)))


def page(*parts: str) -> str:
    """Parts that are HTML already, below our style."""
    return f'{STYLE}<div class="yunei">{"".join(parts)}</div>'


def heading(words: str) -> str:
    """A line in bold."""
    return f"<div><b>{text(words)}</b></div>"


def note(words: str) -> str:
    """A line in small."""
    return f'<div class="note">{text(words)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[int] = frozenset()) -> str:
    """A table of cells that are HTML already, under headings that are text; `numbers` are columns aligned right."""

    def cell(kind: str, at: int, content: str) -> str:
        return f'<{kind} class="n">{content}</{kind}>' if at in numbers else f"<{kind}>{content}</{kind}>"

    top = "".join(cell("th", at, text(name)) for at, name in enumerate(head))
    body = "".join(f"<tr>{''.join(cell('td', at, one) for at, one in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def bar(spent: float, asked: float = 0.0, width: int = 240) -> str:
    """A budget from 0 to 1 as inline SVG: spent dark, asked light, the rest empty; the label says the same."""
    used = min(max(spent, 0.0), 1.0) * width
    now = min(max(asked, 0.0) * width, width - used)
    label = f"{min(max(spent, 0.0), 1.0):.1%}" + (f" + {asked:.1%}" if asked else "")
    blue = "var(--jp-brand-color1,#4a8fc4)"
    return (
        f'<svg width="{width}" height="12" viewBox="0 0 {width} 12" role="img" aria-label="{label}">'
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="11" rx="3" fill="none" stroke="currentColor" opacity=".4"/>'
        f'<rect width="{used:.1f}" height="12" rx="3" style="fill:{blue}"/>'
        f'<rect x="{used:.1f}" width="{now:.1f}" height="12" style="fill:{blue};opacity:.4"/></svg> {label}'
    )


def lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same table in plain characters."""
    shown = [[visible(one) for one in row] for row in (head, *rows)]
    widths = [max(len(row[at]) for row in shown) for at in range(len(head))]
    return "\n".join("  ".join(one.ljust(widths[at]) for at, one in enumerate(row)).rstrip() for row in shown)
