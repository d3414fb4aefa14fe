"""Values as documents: one table, one type, canonical JSON in `doc`, and beside it the columns that are looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused

T = TypeVar("T")


@dataclass(frozen=True)
class Documents(Generic[T]):
    """One kind of value in its table. `columns` are what stands beside `doc`, the primary key included."""

    table: Table
    kind: type[T]
    columns: Callable[[T], dict[str, Any]]

    def add(self, connection: Connection, value: T, **beside: object) -> None:
        """Insert.

        Raises:
            Refused: `record.exists` when the key, or anything else that must be unique, is taken.
        """
        row = {**self.columns(value), **beside, "doc": encode(value)}
        try:
            connection.execute(insert(self.table).values(row))
        except IntegrityError:
            raise Refused("record.exists", what=self._what) from None

    def find(self, connection: Connection, *key: str) -> T | None:
        """The value with that primary key, or None."""
        doc = connection.execute(select(self.table.c.doc).where(self._where(key))).scalar_one_or_none()
        return None if doc is None else decode(doc, self.kind)

    def get(self, connection: Connection, *key: str) -> T:
        """The value with that primary key.

        Raises:
            Refused: `record.unknown`.
        """
        value = self.find(connection, *key)
        if value is None:
            raise Refused("record.unknown", what=self._what)
        return value

    def save(self, connection: Connection, value: T) -> None:
        """Replace the value with the same primary key."""
        row = self.columns(value)
        key = tuple(row[column.name] for column in self.table.primary_key)
        connection.execute(update(self.table).where(self._where(key)).values({**row, "doc": encode(value)}))

    def listed(self, connection: Connection, *conditions: ColumnElement[bool]) -> tuple[T, ...]:
        """Every value that meets the conditions, in order of the primary key."""
        query = select(self.table.c.doc).where(*conditions).order_by(*self.table.primary_key)
        return tuple(decode(doc, self.kind) for doc in connection.execute(query).scalars())

    def unaltered(self, connection: Connection) -> tuple[T, ...]:
        """Every value, each as this class writes it: what is looked up beside a document says what the document says.

        Raises:
            Refused: `wire.malformed` for a row that another hand wrote.
        """
        found = []
        for row in connection.execute(select(self.table).order_by(*self.table.primary_key)).mappings():
            value = decode(row["doc"], self.kind)
            written = {**self.columns(value), "doc": encode(value)}
            if any(row[name] != part for name, part in written.items()):
                raise Refused("wire.malformed", what=self._what)
            found.append(value)
        return tuple(found)

    @property
    def _what(self) -> str:
        return self.kind.__name__.removesuffix("Record").lower()

    def _where(self, key: tuple[str, ...]) -> ColumnElement[bool]:
        return and_(*(column == part for column, part in zip(self.table.primary_key, key, strict=True)))
