from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from enclave_runner.contract.receipt import Clip, DPTable
from sandbox.cli.tables import clip_line, dp_table, notes_of, receipt_line, show_release
from tests.support.released_tables import STEERING, by_district, days, field, receipt, table


def shown(release: DPTable, width: int = 120) -> list[str]:
    out = io.StringIO()
    show_release(Console(file=out, width=width, markup=False), release)
    return out.getvalue().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_every_number_stands_with_its_unit_and_interval() -> None:
    lines = shown(by_district())
    assert [cell.strip() for cell in lines[1].split("┃")[1:4]] == ["", "people", "mean_income"]
    assert [cell.strip() for cell in lines[2].split("┃")[1:4]] == ["district", "[rows] ± 3.5", "[income]"]
    north, south, total = (next(line for line in lines if key in line) for key in ("[north]", "south", "Σ"))
    assert cells(north)[:3] == ["[north]", "40", "1000.5  ± 12.25"]
    assert cells(south)[:3] == ["south", "-2", "—"]
    assert cells(total)[:3] == ["Σ", "38", "990.25 ±  ?"]


def test_decimal_points_and_intervals_stand_one_below_the_other() -> None:
    release = table(("k",), {("a",): ("1000.5", "2"), ("b",): ("-2", "13.25"), ("c",): ("0.125", "1")})
    rows = [line for line in shown(release) if line.startswith("│")]
    assert len({line.index("±") for line in rows}) == 1
    assert [cells(line)[1] for line in rows] == ["1000.5   ±  2", "-2     ± 13.25", "0.125 ±  1"]


def test_a_shared_width_stands_in_the_head_only_where_it_holds_for_all() -> None:
    release = table(("k",), {("a",): ("10", "2"), ("b",): ("20", "5")}, shared="2")
    lines = shown(release)
    assert not any("[rows] ± 2 " in line for line in lines)
    assert any("20 ± 5" in line for line in lines)
    unknown = table(("k",), {("a",): ("10", "2"), ("b",): (None, None)}, shared="2")
    assert any("[rows] ± 2 " in line for line in shown(unknown))


def test_a_column_without_any_interval_says_so_once() -> None:
    lines = shown(table(("k",), {("a",): ("35", None), ("b",): ("38", None)}))
    assert "[rows] ± ?" in lines[2]
    assert not any("±" in line for line in lines if line.startswith("│"))
    assert any(line.startswith("± ? 区间未知") for line in lines)


def test_decimals_that_mean_nothing_are_left_out() -> None:
    text = "\n".join(shown(table(("k",), {("a",): ("15.989235337787676", None), ("b",): ("36.0625", None)})))
    assert "15.9892 " in text
    assert "36.0625 " in text


def test_what_it_cost_and_what_it_lost_stand_below() -> None:
    notes = "\n".join(notes_of(by_district(Clip(bound="32", learned=True, lost="0.0038", lost_half_width="0.0012"))))
    for part in ("resident ρ=0.02435", "ε = 1.0000", "δ = 1e-6", "discrete Gaussian", "离散高斯", "95 %"):
        assert part in notes
    assert "32 (由私有直方图得出 / learned privately)" in notes
    assert "0.38 ± 0.12 %" in notes
    assert "Σ 合计" in notes
    assert "— 噪声" in notes
    plain = "\n".join(notes_of(table(("k",), {("a",): ("1", "1")}, noise="laplace")))
    assert "discrete Laplace" in plain
    assert "Σ" not in plain
    assert "—" not in plain


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (None, "none was needed"),
        (Clip(bound="128", learned=False), "from the catalogue); 截去 / cut away: 未知 / not known"),
        (Clip(bound="128", learned=False, lost="0.1"), "cut away: 10 %"),
        (Clip(bound="8", learned=True, lost="-0.0001", lost_half_width="0.02"), "cut away: -0.01 ± 2 %"),
        (Clip(bound="8", learned=True, lost="0", corrected=True), "cut away: 0 %; 总量已校正 / totals corrected"),
    ],
)
def test_the_clip_says_where_it_comes_from_and_what_is_lost(clip: Clip | None, said: str) -> None:
    assert said in clip_line(clip)


def test_bars_stand_beside_the_finest_rows_and_figures_of_their_own_below() -> None:
    lines = shown(by_district())
    assert "█" in next(line for line in lines if "[north]" in line)
    assert "█" not in next(line for line in lines if "Σ" in line)
    assert any("●" in line for line in shown(days()))
    assert any("██ 54" in line for line in shown(field()))


def test_one_number_alone_has_no_bar() -> None:
    assert not any("█" in line for line in shown(table((), {(): ("7", "2")})))


def test_keys_and_names_are_neither_markup_nor_commands_of_the_terminal() -> None:
    text = "\n".join(shown(table((STEERING,), {(STEERING,): ("1", "1"), ("[bold]x",): ("2", "1")})))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]x" in text


def test_a_terminal_without_these_characters_gets_others() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="gb18030", write_through=True), width=120, markup=False)
    console.print(dp_table(console, by_district()))
    drawn = raw.getvalue().decode("gb18030")
    assert "#" in drawn
    assert "█" not in drawn


def test_the_receipt_line_says_when_an_answer_was_repeated() -> None:
    first = receipt_line(receipt(), 0, "第三十五条")
    assert first == "回执 / receipt rcpt-1 #7 · loss resident ρ=0.02435 · 0 fen (第三十五条)"
    again = receipt_line(receipt(repeats="rcpt-0"), 0, "第三十五条")
    assert "loss 0 · 重复作答，无新损失 / repeated from rcpt-0, no new privacy loss" in again


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_loses_no_digit(width: int) -> None:
    release = table(("district",), {("north",): ("123456789", "12345"), ("south",): ("1", None)})
    lines = shown(release, width)
    assert max(len(line) for line in lines if line.startswith("│")) <= width
    assert "123456789" in "".join(lines)
    assert "…" not in "".join(line for line in lines if line.startswith("│"))


def test_a_table_without_rows_is_a_head() -> None:
    lines = shown(table(("district",), {}))
    assert any("district" in line for line in lines)
    assert not any(line.startswith("│") for line in lines)


def test_a_table_of_an_earlier_version_has_one_width_for_each_column() -> None:
    earlier = msgspec.structs.replace(
        table(("k",), {("a",): ("10", "2"), ("b",): ("20", "2")}, "rows", "2"), half_widths=()
    )
    lines = shown(earlier)
    assert "[rows] ± 2" in lines[2]
    assert [cells(line)[:2] for line in lines if line.startswith("│")] == [["a", "10"], ["b", "20"]]
