"""DuckDB, pandas and polars read each file with the types that it promises.

They are installed by `nox -s readers` and not by the extra `test`: together they are larger than
all else that the tests need. What is not installed is skipped.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls_async import ConfigurationError, Fetched, structure_call
from calls_async._codec import decode_call
from calls_async.journal import FetchedRecord, Journal
from calls_async.journal.render import render
from tests.documents import MEMBERS, call_documents, example, normal_form
from tests.examples.pages import blocks, run, text

REASON = "installed by `nox -s readers`"
STARTED = datetime(2024, 3, 20, 9, tzinfo=UTC)

FULL = example()
EMPTY = {
    **{member.path[0]: None for member in MEMBERS if member.required},
    **{name: FULL[name] for name in ("callType", "status", "type", "createdAt")},
    "id": "empty",
    "new": {"a": [1, "é"]},
    "contact": {"score": 3},
}


def reader(name):
    return pytest.importorskip(name, reason=REASON)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two records in a journal and in each format: all members, and hardly any."""
    folder = tmp_path_factory.mktemp("files")
    bodies = [json.dumps(document).encode() for document in (FULL, EMPTY)]
    with Journal.open(folder / "calls.journal") as journal:
        calls = [decode_call(body) for body in bodies]
        journal.add(call.id for call in calls)
        journal.settle(
            Fetched(id=call.id, call=call, raw=body, attempts=1, elapsed=0.1)
            for call, body in zip(calls, bodies, strict=True)
        )
        render(journal.fetched(), folder / "calls.jsonl")
        render(journal.fetched(), folder / "calls.csv")
        with suppress(ConfigurationError):  # without pyarrow: what reads this is skipped
            render(journal.fetched(), folder / "calls.parquet")
    return folder


# --- The Parquet file itself ---------------------------------------------------------------------


def kind(pa, field):
    """A type of Arrow as the kinds of `MEMBERS`."""
    kinds = {pa.string(): "string", pa.bool_(): "boolean", pa.timestamp("us", tz="UTC"): "time"}
    return "object" if pa.types.is_struct(field.type) else kinds[field.type]


def test_the_schema_is_the_page(files):
    """Every documented member has its column or field, in order, with its type; then `extra`."""
    pa = reader("pyarrow")
    schema = reader("pyarrow.parquet").read_schema(files / "calls.parquet")
    found = []
    for field in schema:
        found.append(((field.name,), kind(pa, field), field.nullable))
        if pa.types.is_struct(field.type):
            found += [((field.name, inner.name), kind(pa, inner), True) for inner in field.type]
    page = [(m.path, m.kind, m.nullable or not m.required) for m in MEMBERS]
    assert found == [*page, (("extra",), "string", True)]


def test_the_schema_is_documented(files):
    """The reference lists every column with its type, and what is never null."""
    reader("pyarrow")
    schema = reader("pyarrow.parquet").read_schema(files / "calls.parquet")
    page = (Path(__file__).parents[2] / "docs" / "reference" / "files.md").read_text("utf-8")
    listed = [f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in schema]
    assert "```text\n" + "\n".join(listed) + "\n```" in page


def test_what_no_column_has_is_in_extra(files):
    """Members that nobody documents keep their place; a record without them has null."""
    rows = reader("pyarrow.parquet").read_table(files / "calls.parquet").to_pylist()
    assert [row["extra"] for row in rows] == [None, '{"new":{"a":[1,"é"]},"contact":{"score":3}}']
    assert rows[1]["contact"] is None
    assert rows[0]["caller"] == FULL["caller"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(documents=st.lists(call_documents(), max_size=3))
def test_a_parquet_file_loses_nothing(tmp_path, documents):
    """The documents that went in come out, up to the normal form and the offsets of their times."""
    parquet = reader("pyarrow.parquet")
    out = tmp_path / "calls.parquet"
    bodies = [json.dumps(document).encode() for document in documents]
    records = [
        FetchedRecord(id="a", index=0, raw=body, attempts=1, elapsed=0.1, at=STARTED)
        for body in bodies
    ]
    render(records, out, overwrite=True)
    for row, document in zip(parquet.read_table(out).to_pylist(), documents, strict=True):
        assert structure_call(rebuilt(row)) == structure_call(document)


def rebuilt(row):
    """The document of a row."""
    extra = json.loads(row.pop("extra") or "{}")
    document = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }
    for name, value in extra.items():
        # A member of `contact` goes to `contact`; every other name is no documented one.
        document[name] = {**(row[name] or {}), **value} if name in row else value
    return normal_form(document)


def test_rows_are_grouped(tmp_path, monkeypatch):
    """A group has a bounded number of rows, so that a reader may skip most of a long file."""
    parquet = reader("pyarrow.parquet")
    monkeypatch.setattr("calls_async.journal._parquet._BATCH", 2)
    monkeypatch.setattr("calls_async.journal._parquet.ROW_GROUP", 4)
    body = json.dumps(FULL).encode()
    record = FetchedRecord(id="a", index=0, raw=body, attempts=1, elapsed=0.1, at=STARTED)
    render([record] * 9, tmp_path / "calls.parquet")
    metadata = parquet.ParquetFile(tmp_path / "calls.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 1]


# --- Readers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    ["'{}/calls.parquet'", "read_json('{}/calls.jsonl')"],
    ids=["parquet", "jsonl"],
)
def test_duckdb_reads_nested_members_alike(files, source):
    """The same query serves Parquet and JSON lines: names and nesting are those of the API."""
    duckdb = reader("duckdb")
    if "parquet" in source:
        reader("pyarrow")
    query = f"""
        SELECT id, contact.firstName, callerPhoneNumber.value, epoch(startedAt), transferred
        FROM {source.format(files)} ORDER BY createdAt, id
    """  # noqa: S608 (a file of this test)
    assert duckdb.sql(query).fetchall() == [
        (FULL["id"], "John", "+33612345678", STARTED.timestamp(), False),
        ("empty", None, None, None, None),
    ]


def test_duckdb_reads_csv(files):
    """Columns with dots are quoted; times and booleans are found by their form."""
    duckdb = reader("duckdb")
    query = f"""
        SELECT "contact.firstName", epoch(startedAt), transferred
        FROM read_csv('{files}/calls.csv') ORDER BY createdAt, id
    """  # noqa: S608 (a file of this test)
    assert duckdb.sql(query).fetchall() == [
        ("John", STARTED.timestamp(), False),
        (None, None, None),
    ]


def test_pandas_reads_each_file(files):
    """Times are aware, and an id is a text, from whatever file."""
    pandas = reader("pandas")
    frames = {
        "csv": pandas.read_csv(files / "calls.csv", dtype={"id": str}, parse_dates=["startedAt"]),
        "jsonl": pandas.read_json(files / "calls.jsonl", lines=True, dtype=False),
    }
    frames["jsonl"]["startedAt"] = pandas.to_datetime(frames["jsonl"]["startedAt"])
    with closing(sqlite3.connect(files / "calls.journal")) as db:
        frames["view"] = pandas.read_sql("SELECT * FROM calls", db, parse_dates=["started_at"])
        frames["view"] = frames["view"].rename(columns={"started_at": "startedAt"})
    if (files / "calls.parquet").exists():
        frames["parquet"] = pandas.read_parquet(files / "calls.parquet")
        assert frames["parquet"]["contact"][0]["firstName"] == "John"
    for name, frame in frames.items():
        assert list(frame["id"]) == [FULL["id"], "empty"], name
        assert frame["startedAt"][0] == STARTED, name
        assert pandas.isna(frame["startedAt"][1]), name


def test_polars_reads_each_file(files):
    """Nested objects are structs, and times are typed."""
    polars = reader("polars")
    frames = {
        "csv": polars.read_csv(files / "calls.csv", try_parse_dates=True),
        "jsonl": polars.read_ndjson(files / "calls.jsonl"),
    }
    assert frames["csv"]["startedAt"][0] == STARTED
    assert frames["csv"]["transferred"].to_list() == [False, None]
    if (files / "calls.parquet").exists():
        frames["parquet"] = polars.read_parquet(files / "calls.parquet")
        assert frames["parquet"].schema["startedAt"] == polars.Datetime("us", "UTC")
        assert frames["parquet"]["startedAt"][0] == STARTED
    for name, frame in frames.items():
        assert frame["id"].to_list() == [FULL["id"], "empty"], name
        if name != "csv":
            first_names = frame["contact"].struct.field("firstName")
            assert first_names.to_list() == ["John", None], name


def test_sqlite_reads_the_journal(files):
    """The view `calls` has a typed column for each documented member; a time is text in UTC."""
    with closing(sqlite3.connect(f"{(files / 'calls.journal').as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT id, contact_first_name, started_at, transferred,"
            " unixepoch(ended_at) - unixepoch(started_at) FROM calls ORDER BY job_index"
        ).fetchall()
    assert rows == [
        (FULL["id"], "John", "2024-03-20T09:00:00.000Z", 0, 900),
        ("empty", None, None, None, None),
    ]


# --- The page ------------------------------------------------------------------------------------

PAGE = "read-the-results.md"


def test_the_page_reads_with_duckdb(files, monkeypatch):
    """Its queries, from each kind of file."""
    duckdb = reader("duckdb")
    monkeypatch.chdir(files)
    nested, flat = blocks(PAGE, "sql")
    alternatives = nested.replace("'calls.parquet' ", "read_json('calls.jsonl') ")
    assert alternatives != nested
    queries = [nested, alternatives] if (files / "calls.parquet").exists() else [alternatives]
    for query in queries:
        assert min(duckdb.sql(query).fetchall(), key=repr)[:2] == ("John", 1)
    assert len(duckdb.sql(flat).fetchall()) == 2
    (extra,) = re.findall(r"`(extra ->> [^`]*)`", text(PAGE))
    if (files / "calls.parquet").exists():
        found = duckdb.sql(f"SELECT {extra} FROM 'calls.parquet'").fetchall()  # noqa: S608
        assert sorted(found, key=repr) == [("3",), (None,)]


@pytest.mark.parametrize("at", [0, 1, 2], ids=["pandas", "polars", "sqlite"])
async def test_the_page_reads_with(files, monkeypatch, at):
    """Its Python, as it stands there."""
    for name in ("pandas", "polars", "pyarrow"):
        reader(name)
    monkeypatch.chdir(files)
    names = await run(blocks(PAGE)[at], pandas=reader("pandas"))
    assert list(names["calls"]["id"]) == [FULL["id"], "empty"]
