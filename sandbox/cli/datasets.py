"""`yunei dataset`: the catalogue and imports. The file is opened here and handed over; no row is read here."""

from __future__ import annotations

import os
import threading
import tomllib
from dataclasses import fields
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from enclave_runner.contract.dataset import EPOCH, Column, ColumnType
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, ImportReport
from sandbox.cli.session import Session, readable
from sandbox.domain.dataset import Dataset
from sandbox.workflow.datasets import get_dataset, import_dataset, list_datasets
from sandbox.workflow.office import Actor, Office

app = typer.Typer(help="数据目录与导入 / Catalogue and imports", no_args_is_help=True)


@app.command(name="import", help="按已签名的目录导入数据文件 / Import a file under a signed catalogue entry")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV（可 gzip）或 Parquet 文件 / CSV (may be gzip) or Parquet file")],
    catalogue: Annotated[Path, typer.Option(help="目录条目 TOML / catalogue entry")],
    officer_key: Annotated[Path | None, typer.Option(help="授权官密钥 / the officer's key file")] = None,
    header: Annotated[bool, typer.Option(help="CSV 第一行是列名 / the first CSV line names the columns")] = True,
) -> None:
    """All accepted rows or nothing; rejected rows are listed by number and rule."""
    session: Session = context.obj
    dataset = read_catalogue(catalogue)
    key = KeyFile.load(officer_key or session.home.officer_key)
    with session.office() as (office, actor):
        report = run_import(session, office, actor, dataset, key, readable(file), header)
    rows = [(item.row, item.column or "-", item.rule) for item in report.rejections[:20]]
    title = f"{report.dataset_id} {report.version}: {report.accepted} rows in, {report.rejected} rejected"
    session.table(report, title, (">row", "column", "rule"), rows)


def run_import(
    session: Session, office: Office, actor: Actor, dataset: Dataset, key: KeyFile, file: Path, header: bool = True
) -> ImportReport:
    """Sign the spec, hand the open file to the enclave, show how far it has read."""
    spec = seal(dataset.spec, DATASET_PURPOSE, key)
    with file.open("rb", buffering=0) as opened, _progress(session, opened.fileno(), dataset.dataset_id):
        return import_dataset(office, actor, dataset, spec, opened.fileno(), format_of(opened.fileno()), header)


class _progress:  # noqa: N801 - reads as a verb in a with statement
    """A bar over the file's read position: the descriptor is shared with the enclave, and so is its offset."""

    def __init__(self, session: Session, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        quiet = session.as_json or not session.console.is_terminal
        self._bar = Progress(*columns, TimeElapsedColumn(), console=session.console, transient=True, disable=quiet)
        self._task = self._bar.add_task(name, total=self._size)
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._bar.start()
        self._watcher.start()

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watcher.join()
        self._bar.stop()

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            self._bar.update(self._task, completed=os.lseek(self._descriptor, 0, os.SEEK_CUR))


def format_of(descriptor: int) -> FileFormat:
    """Parquet by its magic bytes, CSV otherwise."""
    return FileFormat.PARQUET if os.pread(descriptor, 4, 0) == b"PAR1" else FileFormat.CSV


def read_catalogue(path: Path) -> Dataset:
    """A catalogue entry from TOML. What is wrong with it is said in full: a catalogue is public, and holds no row.

    Raises:
        Failed: `file.unreadable`; typer.BadParameter for a malformed entry, unknown fields included.
    """
    try:
        document = tomllib.loads(readable(path).read_text(encoding="utf-8"))
        unknown = sorted(document.keys() - {field.name for field in fields(Dataset)})
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}")
        return msgspec.convert(_with_days(document), Dataset)
    except ValueError as error:
        raise typer.BadParameter(f"{path.name}: {error}; see docs/how-to/catalogue.md") from None


def _with_days(document: dict[str, Any]) -> dict[str, Any]:
    """The entry with bounds that are written as dates in days since 1970, as the contract has them."""
    spec = document.get("spec")
    columns = spec.get("columns") if isinstance(spec, dict) else None
    for column in columns if isinstance(columns, list) else ():
        bounds = column.get("bounds") if isinstance(column, dict) else None
        if isinstance(bounds, list) and bounds and all(type(bound) is date for bound in bounds):
            column["bounds"] = [(bound - EPOCH).days for bound in bounds]
    return document


def _bounds_text(column: Column) -> str:
    if column.bounds is None:
        return ""
    if column.type is ColumnType.DATE:
        return "–".join((EPOCH + timedelta(days=day)).isoformat() for day in column.bounds)
    return "–".join(map(str, column.bounds))


@app.command(name="list", help="列出数据目录 / List the catalogue")
def list_all(context: typer.Context) -> None:
    """The catalogue with the fields of article 17."""
    session: Session = context.obj
    with session.office() as (office, actor):
        datasets = list_datasets(office, actor)
    rows = [
        (
            d.dataset_id,
            d.title,
            d.department_id,
            d.form.value,
            d.grade,
            d.sharing.value,
            d.opening.value,
            d.frequency.value,
        )
        for d in datasets
    ]
    columns = ("id", "title", "department", "form", ">grade", "sharing", "opening", "updated")
    session.table(datasets, "数据目录 / catalogue", columns, rows)


@app.command(help="查看一个数据集的列 / Show one dataset's columns")
def show(context: typer.Context, dataset_id: Annotated[str, typer.Argument(help="数据集编号 / dataset id")]) -> None:
    """Columns with type, grade, bounds, domain and the negative list."""
    session: Session = context.obj
    with session.office() as (office, actor):
        dataset = get_dataset(office, actor, dataset_id)
    rows = [
        (
            column.name,
            column.title,
            column.type.value,
            column.grade,
            _bounds_text(column),
            f"{len(column.domain)} values" if column.domain else "",
            column.withheld or "",
        )
        for column in dataset.spec.columns
    ]
    columns = ("column", "title", "type", ">grade", ">bounds", "domain", "withheld (art. 24)")
    session.table(dataset, f"{dataset.dataset_id} · {dataset.title}", columns, rows)
