"""A job on Dask, on a cluster within this process: what it makes, resumes, refuses and ends."""

from __future__ import annotations

import functools
import json
import threading

import attrs
import pytest
from tenacity import stop_after_attempt

from calls_async import (
    AuthenticationError,
    CallsClient,
    ConfigurationError,
    InvalidCallIdError,
    Limits,
    OutputError,
    RetryPolicy,
)
from calls_async.engines._parts import CALLS, ERRORS, REPLACING, Part
from calls_async.engines._place import Place
from calls_async.engines.dask import export_calls_dask
from calls_async.journal import _parquet
from calls_async.testing import Fault
from tests.engines.kit import KEY, REASON, check_records, ids_of, rows_of, serving
from tests.kit import call_ids

distributed = pytest.importorskip("distributed", reason=REASON)
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

IDS = call_ids(45)
QUICK = RetryPolicy(stop=stop_after_attempt(1))


@pytest.fixture(scope="module")
def dask():
    """Two workers in this process."""
    with distributed.Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as client:
        yield client


@pytest.fixture
def sandbox(monkeypatch):
    with serving() as sandbox:
        monkeypatch.setenv("CALLS_API_KEY", KEY)
        monkeypatch.setenv("CALLS_BASE_URL", sandbox.base_url)
        yield sandbox


@pytest.fixture
def export(dask, sandbox, tmp_path):
    """Run a job over a few chunks, whose calls are those of the sandbox."""
    assert sandbox.port

    def run(ids=IDS, destination=tmp_path / "out", config=None, **options):
        config = {"retry": QUICK} if config is None else config
        return export_calls_dask(
            dask, ids, destination, config=config, **{"chunk_size": 10, **options}
        )

    run.folder = tmp_path / "out"
    return run


def asked_for(sandbox, since=0):
    return [entry.call_id for entry in sandbox.ledger.entries[since:]]


# --- What is made --------------------------------------------------------------------------------


def test_each_id_has_its_record(export, sandbox):
    """The dataset has each record once, in the order of the ids; each was asked for once."""
    seen = []
    summary = export(iter(IDS), progress=seen.append)
    assert ids_of(export.folder) == IDS
    check_records(rows_of(export.folder))
    assert sorted(asked_for(sandbox)) == sorted(IDS)
    assert (summary.asked, summary.fetched, summary.fetched_now) == (45, 45, 45)
    assert (summary.parts, summary.failed, summary.complete) == (5, 0, True)
    assert summary.destination == export.folder.as_uri()
    assert seen[-1].parts == 5
    assert all(glance.workers == 2 for glance in seen)
    assert list((export.folder / ERRORS).iterdir()) == []


def test_the_columns_are_those_of_a_journals_file(export):
    """A part has the schema of every Parquet file of calls."""
    export(IDS[:5])
    (part,) = (export.folder / CALLS).iterdir()
    schema = __import__("pyarrow.parquet").parquet.read_schema(part)
    assert schema.equals(_parquet.calls_table([]).schema)


def test_failures_are_parts_too(export, sandbox):
    """An id without a record is in `errors`, with what a journal tells about it, and no other."""
    sandbox.faults = {"call-3": Fault.status(404), "call-17": Fault.status(503)}
    summary = export([*IDS[:20], "..", "bad\ud800", ""])
    errors = rows_of(export.folder, ERRORS)
    assert [row["id"] for row in errors] == ["call-3", "call-17", "..", "bad\\ud800", ""]
    assert [row["error"] for row in errors[:2]] == ["NotFoundError", "ServerError"]
    assert [row["retryable"] for row in errors] == [False, True, False, False, False]
    assert errors[1]["status"] == 503
    assert errors[1]["requestId"].startswith("req-")
    assert summary.failed_by == {"NotFoundError": 1, "ServerError": 1, "InvalidCallIdError": 3}
    assert sorted(ids_of(export.folder)) == sorted(set(IDS[:20]) - {"call-3", "call-17"})


def test_a_chunk_without_a_record_is_finished(export, sandbox):
    """Where nothing could be fetched, the part of records has no row, and is there."""
    sandbox.faults = dict.fromkeys(IDS[:10], Fault.status(404))
    summary = export(IDS[:10])
    assert (summary.fetched, summary.failed, summary.parts) == (0, 10, 1)
    assert rows_of(export.folder) == []
    assert export(IDS[:10]).parts_before == 1


def test_a_record_that_no_column_holds_is_one_failure(export, monkeypatch):
    """It fails alone, and does not take its chunk with it."""
    row_of = _parquet.row_of

    def refuses_one(call):
        if call.id == "call-4":
            raise OutputError("a record is nested too deeply", call_id=call.id, output="Parquet")
        return row_of(call)

    monkeypatch.setattr(_parquet, "row_of", refuses_one)
    summary = export(IDS[:10])
    assert (summary.fetched_now, summary.failed_by) == (9, {"OutputError": 1})
    assert ids_of(export.folder, ERRORS) == ["call-4"]


def test_repeated_ids_of_a_chunk_are_fetched_once(export, sandbox):
    """Within a chunk an id has one row, however often it occurs."""
    summary = export([*IDS[:5], *IDS[:4]])
    assert (summary.asked, summary.duplicates) == (5, 4)
    assert ids_of(export.folder) == IDS[:5]
    assert len(sandbox.ledger) == 5


def test_no_ids(export):
    """A job without ids is done at once, and makes no part."""
    summary = export([])
    assert (summary.asked, summary.parts, summary.complete) == (0, 0, True)


def test_a_url_is_a_destination(export):
    """What fsspec can open can be written to, and read again in a later run."""
    place = Place.at("memory://dask/out", None)
    place.prepare(CALLS)
    assert export(destination="memory://dask/out").fetched_now == 45
    assert len(place.names(CALLS)) == 5
    summary = export(destination="memory://dask/out/")
    assert (summary.fetched, summary.fetched_now) == (45, 0)
    table = _parquet.table_of(place.read(f"{CALLS}/{min(place.names(CALLS))}"))
    assert table.column("id").to_pylist() == IDS[:10]


def test_more_chunks_than_are_held_back(export, monkeypatch):
    """Where many parts are missing, the first are made before all the others were looked at."""
    monkeypatch.setattr("calls_async.engines._dataset._HELD", 2)
    export()
    for part in sorted((export.folder / CALLS).iterdir())[:4]:
        part.unlink()
    assert export().fetched_now == 40
    assert ids_of(export.folder) == IDS


# --- Going on ------------------------------------------------------------------------------------


def test_what_is_finished_is_not_fetched_again(export, sandbox):
    """A later run fetches the parts that are missing, and no other id."""
    sandbox.faults = {"call-3": Fault.status(404)}
    export()
    sandbox.faults = {}
    (part,) = (export.folder / CALLS).glob("part-00000003-*")
    part.unlink()
    before = len(sandbox.ledger)
    summary = export()
    assert sorted(asked_for(sandbox, before)) == sorted(IDS[30:40])
    assert (summary.parts, summary.parts_before, summary.fetched_now) == (5, 4, 10)
    assert (summary.fetched, summary.failed_by) == (44, {"NotFoundError": 1})


def test_failures_are_fetched_again_when_asked(export, sandbox):
    """`retry_failed` asks for those that may succeed, and puts the records in their places."""
    retryable = ["call-3", "call-17", "call-18"]
    sandbox.faults = dict.fromkeys(retryable, Fault.status(503)) | {"call-5": Fault.status(404)}
    export()
    assert export().fetched_now == 0
    sandbox.faults = {"call-18": Fault.status(503)}
    before = len(sandbox.ledger)
    summary = export(retry_failed=True)
    assert sorted(asked_for(sandbox, before)) == sorted(retryable)
    assert (summary.fetched_now, summary.failed) == (2, 2)
    assert ids_of(export.folder) == [i for i in IDS if i not in ("call-5", "call-18")]
    assert ids_of(export.folder, ERRORS) == ["call-5", "call-18"]
    sandbox.faults = {}
    export(retry_failed=True)
    assert len(list((export.folder / ERRORS).iterdir())) == 1
    assert list((export.folder / REPLACING).iterdir()) == []
    assert export().failed_by == {"NotFoundError": 1}


@pytest.mark.parametrize("after", ["the mark", "the records", "the failures"])
def test_a_kill_between_two_files_is_healed(export, sandbox, monkeypatch, after):
    """Wherever the replacing of a part ends, the next run leaves one outcome for each id."""
    sandbox.faults = dict.fromkeys(IDS[:2], Fault.status(503))
    export(IDS[:10])
    sandbox.faults = {}
    steps = ["the mark", "the records", "the failures"]
    allowed = steps.index(after) + 1

    def dies(place, name, *content):
        nonlocal allowed
        if not allowed:
            raise KilledError
        allowed -= 1
        return real[len(content)](place, name, *content)

    class KilledError(BaseException): ...

    real = {1: Place.write, 0: Place.remove}
    place = Place.at(export.folder, None)
    part = Part(place=place, name=next((export.folder / CALLS).glob("*.parquet")).stem)
    there = rows_of(export.folder)
    with monkeypatch.context() as patch:
        patch.setattr(Place, "write", dies)
        patch.setattr(Place, "remove", dies)
        rows = [row | {"id": call_id} for row, call_id in zip(there, IDS[:2], strict=False)]
        fresh = _parquet.calls_table(rows)
        with pytest.raises(KilledError):
            part.replace(_parquet.joined([fresh, part.calls()]), _parquet.failures_table([]))
    export(IDS[:10])
    both = ids_of(export.folder) + ids_of(export.folder, ERRORS)
    assert sorted(both) == sorted(IDS[:10])
    assert list((export.folder / REPLACING).iterdir()) == []


def test_the_first_to_finish_wins(tmp_path):
    """Of two workers with one chunk, because one was taken for dead, the later changes nothing."""
    place = Place.at(tmp_path, None)
    place.prepare(CALLS, ERRORS, REPLACING)
    part = Part(place=place, name="part-00000000-0123456789abcdef")
    empty = _parquet.failures_table([])
    first = part.finish(_parquet.calls_table([]), empty)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert part.finish(_parquet.calls_table([]), empty) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "options", "problem"),
    [
        pytest.param(["other", *IDS], {}, "begins with other ids", id="the first id"),
        pytest.param([*IDS[:35], "other", *IDS[35:]], {}, "chunk 3 of it has", id="one between"),
        pytest.param([*IDS, "more"], {}, "chunk 4 of it has", id="the last chunk"),
        pytest.param(IDS[:40], {}, "not given any more", id="fewer ids"),
        pytest.param(IDS, {"chunk_size": 11}, "chunk_size=10", id="the size of chunks"),
        pytest.param(
            IDS, {"config": {"base_url": "http://127.0.0.1:9"}}, "are from http", id="the API"
        ),
    ],
)
def test_another_jobs_destination_is_refused(export, sandbox, ids, options, problem):
    """Nothing is sent and nothing is written where a dataset is of other ids or another API."""
    export()
    (export.folder / CALLS / next((export.folder / CALLS).glob("part-00000001-*")).name).unlink()
    before = {path.name: path.read_bytes() for path in export.folder.rglob("*.*")}
    sent = len(sandbox.ledger)
    with pytest.raises(OutputError, match=problem):
        export(ids, **options)
    assert len(sandbox.ledger) == sent
    assert {path.name: path.read_bytes() for path in export.folder.rglob("*.*")} == before


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"format": 2}'])
def test_a_destination_that_is_no_dataset_is_refused(export, content):
    """Parts without a manifest, and a manifest that cannot be read, are not ours to write to."""
    export()
    manifest = export.folder / "_calls_async.json"
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)
    with pytest.raises(OutputError, match="another job"):
        export()


def test_what_is_no_part_is_refused(export):
    """A stranger's file among the parts would be read together with them."""
    export()
    (export.folder / CALLS / "mine.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match="is no part of it"):
        export()


def test_a_damaged_part_is_named(export, sandbox):
    """It is not made good silently; the message says which file to delete."""
    sandbox.faults = {"call-3": Fault.status(404)}
    export()
    errors = next((export.folder / ERRORS).iterdir())
    errors.write_bytes(b"PAR1")
    with pytest.raises(OutputError, match="delete it"):
        export()


def test_a_file_is_no_destination(export, tmp_path):
    """A destination must be a folder."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        export(destination=tmp_path / "file")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        pytest.param({"api_key": "sk_test_inline"}, "CALLS_API_KEY in the env", id="a key"),
        pytest.param({"api_key": lambda: "sk_test_x"}, "api_key=.* cannot be pickled", id="lambda"),
        pytest.param(
            {"api_key": functools.partial(str, "sk_test_x")}, "must be a function", id="partial"
        ),
        pytest.param({"headers": {"x-key": KEY}}, "headers holds the API key", id="a header"),
        pytest.param({"hooks": [lambda _: None]}, "hooks=.* cannot be pickled", id="a hook"),
        pytest.param({"sesion": None}, "no option 'sesion'", id="a misspelling"),
        pytest.param({"limits": 3}, "limits must be a Limits", id="a wrong option"),
        pytest.param(3, "a client or a mapping", id="something else"),
    ],
)
def test_a_configuration_that_cannot_travel_is_refused(export, sandbox, config, problem):
    """What holds a key, or cannot be sent, is named before anything happens."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        export(config=config)
    assert "sk_test_inline" not in str(caught.value)
    assert len(sandbox.ledger) == 0
    assert not export.folder.exists()


def test_what_the_program_itself_defines_is_refused(export):
    """A worker cannot import `__main__`."""

    def provider():
        return KEY

    provider.__module__, provider.__qualname__ = "__main__", "provider"
    main = __import__("__main__")
    main.provider = provider
    try:
        with pytest.raises(ConfigurationError, match="api_key is defined in the program itself"):
            export(config={"api_key": provider})
    finally:
        del main.provider


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ids": "call-1"}, "ordinary iterable"),
        ({"chunk_size": 0}, "chunk_size must be a whole number"),
        ({"chunk_size": 1.5}, "chunk_size must be a whole number"),
        ({"max_rate": 0}, "max_rate must be a number"),
        ({"destination": 3}, "destination must be"),
        ({"destination": ""}, "destination must be"),
        ({"destination": "nothing://x"}, "nothing"),
        ({"storage_options": {"token": KEY}}, "storage_options: token"),
    ],
)
def test_wrong_options_are_refused(export, options, problem):
    """They are named before anything is read or sent."""
    with pytest.raises(ConfigurationError, match=problem):
        export(**options)


def test_what_is_no_client_of_dask_is_refused(export):
    """So is a client of asyncio's: it would have to be awaited."""
    with pytest.raises(ConfigurationError, match="must be a distributed Client"):
        export_calls_dask(3, IDS, export.folder, config={})


def test_an_asynchronous_client_of_dask_is_refused(export, dask, monkeypatch):
    """The message says how a job is run from asyncio."""
    monkeypatch.setattr(type(dask), "asynchronous", True)
    with pytest.raises(ConfigurationError, match=r"asyncio\.to_thread"):
        export()


def test_an_id_that_is_no_text_ends_the_job(export):
    """It has no digest, and what it should be is for the caller to say."""
    with pytest.raises(InvalidCallIdError, match="must be a str"):
        export([*IDS[:10], 4711])


def test_what_the_iterable_raises_passes(export, dask):
    """It is the caller's own, and what is under way is called off."""

    def ids():
        yield from IDS[:30]
        raise LookupError

    with pytest.raises(LookupError):
        export(ids())
    assert not_under_way(dask)


def test_runs_are_apart(export, sandbox, tmp_path):
    """Dask remembers results for a while; the same ids for another destination are fetched."""
    for folder in ("a", "b", "c"):
        assert export(destination=tmp_path / folder).fetched_now == 45
        assert ids_of(tmp_path / folder) == IDS
    assert len(sandbox.ledger) == 135


def test_a_run_ends_what_a_killed_one_has_left(export, sandbox, dask):
    """What a driver that is gone began on this cluster does not go on beside the next run."""
    sandbox.latency = 30.0

    class GoneError(BaseException): ...

    def go(_):
        if sandbox.ledger.in_flight == 20:
            raise GoneError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(dask), "cancel", lambda *_: None)
        patch.setattr(type(dask), "unregister_worker_plugin", lambda *_: None)
        with pytest.raises(GoneError):
            export(progress=go)
    assert sandbox.ledger.in_flight == 20
    sandbox.latency = 0.0
    assert export().fetched_now == 45
    assert sandbox.ledger.in_flight == 0
    assert not_under_way(dask)


# --- Ends ----------------------------------------------------------------------------------------


def not_under_way(dask):
    """Whether no worker has anything left of a job."""
    from calls_async.engines import _worker  # noqa: PLC0415

    return _worker._homes == {} and all(
        name.startswith("shuffle") or "calls" not in name
        for plugins in dask.run(lambda dask_worker: list(dask_worker.plugins)).values()
        for name in plugins
    )


def test_an_interrupt_ends_the_chunks(export, sandbox, dask):
    """After Ctrl-C nothing is in flight any more, at once, and nothing half done is there."""
    sandbox.latency = 30.0

    def interrupt(_):
        if sandbox.ledger.in_flight:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(progress=interrupt)
    assert not_under_way(dask)
    sent = len(sandbox.ledger)
    sandbox.latency = 0.0
    assert list((export.folder / CALLS).iterdir()) == []
    assert export().fetched_now == 45
    assert len(sandbox.ledger) == sent + 45


def test_a_stop_finishes_what_is_under_way(export):
    """Once `stop` is set no chunk is begun, and the next run goes on."""
    stop = threading.Event()
    summary = export(progress=lambda glance: glance.parts and stop.set(), stop=stop)
    assert not summary.complete
    assert 1 <= summary.parts < 5
    assert len(list((export.folder / CALLS).iterdir())) == summary.parts
    assert export(stop=stop).parts == 0  # not even workers are waited for
    assert export().parts_before == summary.parts


def test_a_stop_among_finished_chunks(export):
    """It ends the reading of ids as well, and is no reason to take the dataset for another's."""
    export()
    stop = threading.Event()

    def ids():
        yield from IDS[:15]
        stop.set()
        yield from IDS[15:]

    assert not export(ids(), stop=stop).complete


def test_a_refused_key_ends_the_job(export, dask, monkeypatch):
    """The error is the server's, nothing is left under way, and a later run goes on."""
    monkeypatch.setenv("CALLS_API_KEY", "sk_test_revoked")
    with pytest.raises(AuthenticationError):
        export()
    assert not_under_way(dask)
    assert list((export.folder / CALLS).iterdir()) == []
    monkeypatch.setenv("CALLS_API_KEY", KEY)
    assert export().fetched == 45


def test_a_worker_without_a_key_says_so(export, monkeypatch):
    """The key is looked for where the work is done."""
    monkeypatch.delenv("CALLS_API_KEY")
    with pytest.raises(ConfigurationError, match="on a worker: no API key"):
        export()


def give_key():
    return KEY


def test_a_function_may_give_the_key(export, monkeypatch):
    """Workers import it, and call it there."""
    monkeypatch.delenv("CALLS_API_KEY")
    assert export(config={"api_key": give_key}).fetched == 45


def test_a_client_is_a_configuration(export, sandbox):
    """Its options go to the workers, and its key stays behind."""
    client = CallsClient("sk_test_of_the_driver", retry=QUICK, limits=Limits(max_concurrency=1))
    assert export(config=client).fetched == 45
    assert all(entry.key_accepted for entry in sandbox.ledger.entries)
    assert sandbox.ledger.max_in_flight <= 2  # a process has one client, whatever its workers
    assert client.statistics().requests == 0


# --- The rate ------------------------------------------------------------------------------------


def test_the_rate_is_shared_out(export, monkeypatch):
    """Each chunk under way has its share, and there are never more of them than shares."""
    shares = []

    class Spied(CallsClient):
        def __init__(self, *args, limits, **options):
            shares.append(limits.max_rate)
            super().__init__(*args, limits=limits, **options)

    Spied.__module__, Spied.__qualname__ = __name__, "Spied"
    monkeypatch.setitem(globals(), "Spied", Spied)
    seen = []
    config = Spied(KEY, limits=Limits(max_rate=200.0))
    export(IDS, config=config, max_rate=200.0, progress=seen.append)
    assert shares[0] == 200.0  # the driver's
    assert set(shares[1:]) == {100.0}  # of two workers with a thread each
    assert max(glance.under_way for glance in seen) <= 2
    assert len(shares) <= 3
    shares.clear()
    seen.clear()
    export(IDS[:10], config=config, max_rate=4_000.0, destination="memory://dask/own")
    assert set(shares) == {200.0}  # a client's own limit holds where it is the lower one


# --- Secrets -------------------------------------------------------------------------------------

SECRET = "sk_test_Zq8vX3mK9wL2pT7r"


def test_no_key_leaves_the_workers(dask, tmp_path, monkeypatch, caplog):
    """It is in no task, no plugin, no log, no file and no page of the dashboard."""
    caplog.set_level("DEBUG")
    found = []
    cloudpickle = pytest.importorskip("cloudpickle")

    def look(_):
        scheduler = dask.cluster.scheduler
        found.extend(cloudpickle.dumps(task.run_spec) for task in scheduler.tasks.values())
        found.extend(scheduler.worker_plugins.values())

    monkeypatch.setenv("CALLS_API_KEY", SECRET)
    with serving(api_keys=[SECRET]) as sandbox:
        sandbox.latency = 0.05
        client = CallsClient(SECRET, base_url=sandbox.base_url, retry=QUICK)
        export_calls_dask(dask, IDS, tmp_path, config=client, chunk_size=10, progress=look)
        sandbox.api_keys = ["sk_test_another"]
        with pytest.raises(AuthenticationError) as caught:  # Dask logs the arguments of the task
            export_calls_dask(dask, ["a"], tmp_path / "b", config=client, progress=look)
    assert any(b"fetch_chunk" in data for data in found)
    found += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "Compute Failed" in caplog.text
    told = [caplog.text, str(caught.value), repr(caught.value)]
    half = SECRET.removeprefix("sk_test_")[:10]
    assert not any(half.encode() in data for data in found)
    assert not any(half in text for text in told)


def test_the_manifest_is_documented(export):
    """It says whose dataset this is, and nothing else."""
    export()
    manifest = json.loads((export.folder / "_calls_async.json").read_text("utf-8"))
    assert sorted(manifest) == ["baseUrl", "chunkSize", "firstPart", "format"]


def test_what_is_told_is_frozen(export):
    """A summary and a glance are values."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        export([]).parts = 1
