"""Rows as tables: CSV, or Parquet by pyarrow (the extra `parquet`)."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._optional import optional
from .job import Row

NUMBER = ".7g"  # as many digits as float32 has
LONGEST = 2**31 - 1  # characters of a field: a mask has many, of which Python's reader takes 131,072 unless told


def as_csv(rows: Sequence[Row], columns: Mapping[str, str]) -> bytes:
    """The lines of a CSV, without its header. A list is JSON."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerows([_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue().encode(errors="surrogateescape")


def header(columns: Mapping[str, str]) -> bytes:
    """The first line of a CSV."""
    return as_csv([dict(zip(columns, columns, strict=True))], columns)


def _cell(value: Any) -> str | int:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, NUMBER)
    return json.dumps(value) if isinstance(value, list) else value


def as_parquet(rows: Sequence[Row], columns: Mapping[str, str]) -> bytes:
    """A Parquet file; names of files that are no text have escapes."""
    arrow, parquet = _pyarrow()
    types = {"str": arrow.string(), "int": arrow.int64(), "float": arrow.float32()}
    fields = []
    for name, said in columns.items():
        of = types[said.removesuffix("[]" * said.count("[]"))]
        for _ in range(said.count("[]")):
            of = arrow.list_(of)
        fields.append(arrow.field(name, of))
    plain = [{name: _text(row[name]) for name in columns} for row in rows]
    file = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(plain, arrow.schema(fields)), file)
    return file.getvalue()


def _text(value: Any) -> Any:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _pyarrow() -> tuple[Any, Any]:
    return optional("pyarrow", "parquet"), optional("pyarrow.parquet", "parquet")


def read_csv(file: Path, names: Sequence[str]) -> Iterator[Row]:
    """Some columns of the rows of a CSV, as text."""
    csv.field_size_limit(LONGEST)
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        for row in csv.DictReader(lines):
            yield {name: row[name] for name in names}


def read_parquet(file: Path, names: Sequence[str]) -> Iterator[Row]:
    """Some columns of the rows of a Parquet file."""
    yield from _pyarrow()[1].read_table(file, columns=list(names)).to_pylist()
