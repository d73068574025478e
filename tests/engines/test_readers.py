"""DuckDB, pandas, polars and Dask read a dataset, also one that is being written.

They are installed by `nox -s readers`. What is not installed is skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from calls_async._codec import decode_call
from calls_async.engines._parts import CALLS, ERRORS, REPLACING, Part
from calls_async.engines._place import Place
from calls_async.journal import FailureRecord, _parquet
from calls_async.testing import record_body

REASON = "installed by `nox -s readers`"
IDS = [f"call-{n}" for n in range(5)]


def reader(name):
    return pytest.importorskip(name, reason=REASON)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two parts, of which one has no record, one part of errors, and what a killed worker left."""
    reader("pyarrow")
    reader("fsspec")
    folder = tmp_path_factory.mktemp("dataset")
    place = Place.at(folder, None)
    place.prepare(CALLS, ERRORS, REPLACING)
    rows = [_parquet.row_of(decode_call(record_body(call_id))) for call_id in IDS]
    failure = FailureRecord(
        id="gone", index=0, error="NotFoundError", message="m", status=404, attempts=1,
        elapsed=0.5, at=datetime(2024, 3, 20, 9, tzinfo=UTC),
    )  # fmt: skip
    nothing, failed = _parquet.calls_table([]), _parquet.failures_table([failure])
    Part(place=place, name="part-00000000-00").finish(nothing, failed)
    Part(place=place, name="part-00000001-01").finish(
        _parquet.calls_table(rows), _parquet.failures_table([])
    )
    (folder / CALLS / ".part-00000002-02.parquet.0123abcd.part").write_bytes(b"PAR1half")
    (folder / REPLACING / "part-00000001-01").write_bytes(b"")
    return folder


def test_duckdb(dataset):
    """A glob is enough; nested members have their names."""
    duckdb = reader("duckdb")
    calls = duckdb.sql(f"SELECT id, caller.lastName FROM read_parquet('{dataset}/calls/*.parquet')")  # noqa: S608
    assert sorted(row[0] for row in calls.fetchall()) == IDS
    query = f"""SELECT id, status, "at" FROM read_parquet('{dataset}/errors/*.parquet')"""  # noqa: S608
    failed = duckdb.sql(query)
    ((call_id, status, at),) = failed.fetchall()
    assert (call_id, status, at.timestamp()) == ("gone", 404, 1710925200.0)


def test_polars(dataset):
    """Lazily, and with types."""
    polars = reader("polars")
    frame = polars.scan_parquet(f"{dataset}/calls/*.parquet").collect()
    assert sorted(frame["id"]) == IDS
    assert frame.schema["createdAt"] == polars.Datetime("us", "UTC")
    assert polars.read_parquet(f"{dataset}/errors/*.parquet")["error"].to_list() == [
        "NotFoundError"
    ]


def test_pandas(dataset):
    """The folder is enough: what is hidden in it is passed over."""
    pandas = reader("pandas")
    assert sorted(pandas.read_parquet(dataset / "calls")["id"]) == IDS
    assert list(pandas.read_parquet(dataset / "errors")["attempts"]) == [1]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's own, with pandas 3.1
def test_dask(dataset):
    """A part is a partition."""
    reader("pandas")
    frame = reader("dask.dataframe").read_parquet(f"{dataset}/calls/*.parquet")
    assert frame.npartitions == 2
    assert sorted(frame["id"].compute()) == IDS
