"""Sources: what an id is in each kind of file, what is refused, and what a digest tells."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sqlite3
import sys
from contextlib import closing
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import ConfigurationError, SourceError
from calls_async.journal.sources import (
    STANDARD_INPUT,
    CsvColumn,
    JsonlField,
    ParquetColumn,
    SqliteQuery,
    TextFile,
)

NO_BLANKS = st.characters(codec="utf-8", exclude_characters="\n\r\t \ufeff\0")
IDS = st.lists(st.text(NO_BLANKS, min_size=1, max_size=8), min_size=1, max_size=8)


@pytest.fixture
def file(tmp_path):
    """Writes a file and gives its path."""

    def write(content, name="ids"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def database(tmp_path):
    """Writes an SQLite file with a table of calls."""
    path = tmp_path / "crm.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE calls (call_id, number, day)")
        rows = [("b", 1, "mon"), ("a", 2, "mon"), (None, 3, "mon"), ("", 4, "mon"), ("c", 5, "tue")]
        db.executemany("INSERT INTO calls VALUES (?, ?, ?)", rows)
        db.commit()
    return path


def refusal(source):
    """The one line with which a source is refused."""
    with pytest.raises(SourceError) as caught:
        list(source)
    assert caught.value.source == source.name
    assert "\n" not in caught.value.message
    return caught.value


# --- Text ----------------------------------------------------------------------------------------


@given(ids=IDS, data=st.data(), mark=st.sampled_from([b"", codecs.BOM_UTF8]))
def test_a_text_gives_its_lines_however_they_are_written(tmp_path_factory, ids, data, mark):
    """Line ends, blank lines, blanks around ids and a byte order mark never change an id."""
    path = tmp_path_factory.getbasetemp() / "text"
    ends = st.sampled_from(["\n", "\r\n", "\n\n", " \r\n\t\r\n", "\n  "])
    path.write_bytes(mark + "".join(i + data.draw(ends) for i in ids).encode())
    assert list(TextFile(path)) == ids


def test_a_text_is_refused_at_its_line(file):
    """What is not UTF-8 is refused, after the lines before it were given."""
    source = TextFile(file(b"a\n\nb\nZo\xeb\n"))
    assert list(islice(source, 2)) == ["a", "b"]
    error = refusal(source)
    assert error.message == f"{source.name}, line 4: not UTF-8; save the file as UTF-8"
    assert error.line == 4


def test_a_file_without_line_ends_is_not_read_into_memory(tmp_path):
    """An endless line is refused, before it is too much."""
    with (path := tmp_path / "zeros").open("wb") as endless:
        endless.truncate(1 << 30)  # a hole, which takes no room
    assert "line 1: too long" in refusal(TextFile(path)).message


@pytest.mark.parametrize("make", [TextFile, lambda path: CsvColumn(path, 0)])
def test_a_file_that_is_not_there_is_told_as_the_system_does(tmp_path, make):
    """The message names the file and the reason."""
    path = tmp_path / "none"
    assert refusal(make(path)).message == f"cannot read {path}: No such file or directory"
    assert "cannot read" in refusal(make(tmp_path)).message


def test_standard_input_is_read_once_and_has_no_digest(monkeypatch):
    """A pipe gives ids, and cannot tell whether it would give the same again."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    source = TextFile(STANDARD_INPUT)
    assert source.name == "standard input"
    assert source.digest() is None
    assert list(source) == ["a", "b"]


@pytest.mark.parametrize("make", [ParquetColumn, SqliteQuery])
def test_what_is_no_stream_is_not_read_from_standard_input(make):
    """A Parquet file and a database need a file."""
    with pytest.raises(ConfigurationError, match="from a file, not from a pipe"):
        make(STANDARD_INPUT, "id")


# --- CSV -----------------------------------------------------------------------------------------


@given(ids=IDS, delimiter=st.sampled_from(",;\t|"), quoting=st.sampled_from([csv.QUOTE_ALL, 0]))
def test_a_column_is_found_by_its_header_at_any_delimiter(
    tmp_path_factory, ids, delimiter, quoting
):
    """What the csv module writes is read, whatever delimiter it was told to use."""
    path = tmp_path_factory.getbasetemp() / "csv"
    with path.open("w", newline="", encoding="utf-8-sig") as out:
        rows = csv.writer(out, delimiter=delimiter, quoting=quoting)
        rows.writerow(["note", "call id"])
        rows.writerows([[f"{i}\n;,\t|", i] for i in ids])
    source = CsvColumn(path, "call id")
    assert list(source) == ids
    assert list(CsvColumn(path, 1, delimiter=delimiter)) == ids


def test_a_position_needs_no_header(file):
    """Without a header the first row is a row; a position counts from 0."""
    path = file("a,1\nb,2\n\n ,3\n")
    assert list(CsvColumn(path, 0, header=False)) == ["a", "b"]
    assert list(CsvColumn(path, 0)) == ["b"]
    assert list(CsvColumn(file(""), "id")) == []


@pytest.mark.parametrize(
    ("text", "column", "line", "problem"),
    [
        ("name,id\nx,a\ny\n", "id", 3, "1 cells where the first row has 2"),
        ("name,id\nx,y,a\n", "id", 2, "3 cells where the first row has 2"),
        ("name,id\nx,a\n", "ID", 1, "no column 'ID'; the header is name, id"),
        ("id,id\na,b\n", "id", 1, "two columns 'id'; the header is id, id"),
        ("name,id\n", 2, 1, "no column 2: there are 2, from 0"),
        ('name,id\nx,"a\n', "id", 2, "no valid CSV: unexpected end of data"),
        ("\n", "id", 1, "no column 'id'; the header is "),
    ],
)
def test_a_table_that_does_not_fit_is_refused(file, text, column, line, problem):
    """The line and the problem are named."""
    source = CsvColumn(file(text), column)
    error = refusal(source)
    assert error.message == f"{source.name}, line {line}: {problem}"
    assert error.line == line


@pytest.mark.parametrize("options", [{"column": "id", "header": False}, {"column": -1}])
def test_a_column_that_cannot_be_is_refused_at_once(options):
    """A name without a header, or a position below 0, needs no file to be wrong."""
    with pytest.raises(ConfigurationError):
        CsvColumn("ids.csv", **options)


# --- JSON lines ----------------------------------------------------------------------------------


def test_a_member_is_found_by_its_path(file):
    """Dots go down into objects; nulls, an empty text and a blank line are skipped."""
    lines = ['{"call": {"id": "a"}}', "", '{"call": {"id": null}}', '{"call": null}']
    lines += ['{"call": {"id": ""}}', '{"call": {"id": " b "}}']
    assert list(JsonlField(file("\n".join(lines)), "call.id")) == ["a", " b "]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": 7}', "id is a number, not text"),
        ('{"id": 7.5}', "id is a number, not text"),
        ('{"id": true}', "id is a boolean, not text"),
        ('{"id": ["a"]}', "id is an array, not text"),
        ('{"id": {}}', "id is an object, not text"),
        ('{"ID": "a"}', "there is no id"),
        ('["a"]', "there is no id"),
        ('"id"', "there is no id"),
        ("{", "no JSON; one document stands on each line"),
        ("[" * 100_000, "no JSON; one document stands on each line"),
        ("9" * 5_000, "no JSON; one document stands on each line"),
    ],
)
def test_what_is_no_text_is_refused(file, line, problem):
    """A number is not made an id, and a member that is missing is told."""
    source = JsonlField(file('{"id": "first"}\n' + line), "id")
    assert refusal(source).message == f"{source.name}, line 2: {problem}"


# --- SQLite --------------------------------------------------------------------------------------


def test_a_query_gives_its_first_column(database):
    """In the order of the query; null and the empty text are skipped."""
    assert list(SqliteQuery(database, "SELECT call_id, day FROM calls")) == ["b", "a", "c"]
    assert list(SqliteQuery(database, "SELECT call_id FROM calls WHERE day = 'tue'")) == ["c"]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELECT number FROM calls", "row 1 of the query: number is a number, not text"),
        ("SELECT x'00' AS blob", "row 1 of the query: blob is a blob, not text"),
        ("SELECT none FROM calls", "no such column: none"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("DELETE FROM calls", "readonly database"),
        ("ATTACH 'other.db' AS other", "too many attached databases"),
        ("VACUUM INTO 'other.db'", "too many attached databases"),
        ("", "it must be a SELECT"),
    ],
)
def test_a_query_that_gives_no_ids_is_refused(database, query, problem, tmp_path, monkeypatch):
    """The file is only read, no other one is made, and what is no text is not converted."""
    monkeypatch.chdir(tmp_path)
    before = database.read_bytes(), set(tmp_path.iterdir())
    assert problem in refusal(SqliteQuery(database, query)).message
    assert (database.read_bytes(), set(tmp_path.iterdir())) == before


def test_a_database_that_is_none_is_refused(tmp_path, file):
    """A file that is not there is not made; another kind of file is told."""
    missing = tmp_path / "none.db"
    assert "No such file" in refusal(SqliteQuery(missing, "SELECT 1")).message
    assert not missing.exists()
    assert "not a database" in refusal(SqliteQuery(file("x" * 999), "SELECT id FROM ids")).message


def test_the_digest_of_a_query_is_that_of_its_ids(database):
    """It changes when the ids do, also while the change is only in the write-ahead log."""
    source = SqliteQuery(database, "SELECT call_id FROM calls")
    before = source.digest()
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("UPDATE calls SET day = 'wed'")
        db.commit()
        assert source.digest() == before
        db.execute("INSERT INTO calls VALUES ('d', 6, 'wed')")
        db.commit()
        assert source.digest() != before


# --- Parquet -------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Writes a Parquet file."""
    reason = "reads Parquet, which needs the extra `parquet`"
    pa = pytest.importorskip("pyarrow", reason=reason)
    parquet = pytest.importorskip("pyarrow.parquet", reason=reason)

    def write(columns, **options):
        path = tmp_path / "table.parquet"
        parquet.write_table(pa.table(columns), path, **options)
        return path

    return write


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_a_column_of_text_is_read(table, kind):
    """Row group by row group, however the text is encoded; null and the empty text are skipped."""
    import pyarrow as pa  # noqa: PLC0415 (`table` has looked whether it is there)

    text = pa.array(["a", None, "", "b"] * 5)
    encoded = text.dictionary_encode() if kind == "dictionary" else text.cast(kind)
    path = table({"n": list(range(20)), "id": encoded}, row_group_size=3)
    assert list(ParquetColumn(path, "id")) == ["a", "b"] * 5


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("n", "column 'n' is int64, not text"),
        ("none", "no column 'none'; there are n, s, id"),
        ("s", "column 's' is struct<id: string>, not text"),
        ("s.id", "no column 's.id'; there are n, s, id"),
    ],
)
def test_a_column_of_anything_else_is_refused(table, column, problem):
    """Numbers are not made ids."""
    path = table({"n": [1], "s": [{"id": "a"}], "id": ["a"]})
    assert refusal(ParquetColumn(path, column)).message == f"{path}: {problem}"


def test_what_is_no_parquet_is_refused(table, file):
    """A file of another kind and one that is cut are told in one line."""
    path = table({"id": ["a"] * 100})
    path.write_bytes(path.read_bytes()[:-9])
    assert "no valid Parquet" in refusal(ParquetColumn(path, "id")).message
    assert "no valid Parquet" in refusal(ParquetColumn(file("id\na\n"), "id")).message


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch, file):
    """A missing extra is no traceback."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'calls_async\[parquet\]'"):
        list(ParquetColumn(file("x"), "id"))


# --- Digests -------------------------------------------------------------------------------------


def test_the_digest_is_that_of_the_content_and_of_what_is_read(file, tmp_path):
    """Another content, kind, column or delimiter is another list; another name is not."""
    path = file("id,other\na,b\n")
    sources = [
        TextFile(path),
        CsvColumn(path, "id"),
        CsvColumn(path, "other"),
        CsvColumn(path, 0),
        CsvColumn(path, 0, header=False),
        JsonlField(path, "id"),
        ParquetColumn(path, "id"),
    ]
    digests = [source.digest() for source in sources]
    assert len({*digests}) == len(sources)
    moved = path.rename(tmp_path / "moved")
    assert CsvColumn(moved, "id").digest() == digests[1]
    moved.write_text("id,other\nc,b\n")
    assert CsvColumn(moved, "id").digest() != digests[1]


def test_sources_are_read_anew_each_time(file):
    """A source is an iterable and not an iterator: a second run starts from the first id."""
    source = JsonlField(file(json.dumps({"id": "a"})), "id")
    assert list(source) == list(source) == ["a"]
