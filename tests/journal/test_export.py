"""`export_calls`: every id gets its outcome into the journal, however the run ends."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from calls_async import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DeadlineExceededError,
    Failed,
    InvalidCallIdError,
    JournalError,
    Limits,
    NotFoundError,
    ServerError,
    StoppedBy,
)
from calls_async.journal import Journal, export_calls
from calls_async.journal._export import is_final
from calls_async.journal._journal import store_of
from calls_async.journal.render import render, render_failures
from calls_async.journal.report import write_report
from calls_async.testing import FakeTransport, Fault, fake_client, record_body
from tests.journal.kit import fetched, missing, sick
from tests.kit import call_ids, other_tasks

SICK = Fault.status(501)  # which is not tried again, so that a test need not wait


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path / "calls.journal") as opened:
        yield opened


@pytest.fixture
def server():
    return FakeTransport()


@pytest.fixture
async def client(server):
    async with fake_client(server, limits=Limits(max_concurrency=4)) as opened:
        yield opened
    assert other_tasks() == set()


def names(records):
    return [record.id for record in records]


# --- A whole job ---------------------------------------------------------------------------------


async def test_every_id_has_its_outcome(client, server, journal):
    """Records and failures are in the journal, in the order of the ids, each fetched once."""
    server.missing = {"call-3"}
    given = [*call_ids(1_500), "call-7", "", None]
    status = await export_calls(client, iter(given), journal)
    assert (status.asked, status.duplicates, status.fetched, status.left) == (1502, 1, 1499, 0)
    assert status.failed_by == {"InvalidCallIdError": 2, "NotFoundError": 1}
    records = list(journal.fetched())
    assert names(records) == [i for i in call_ids(1_500) if i != "call-3"]
    assert all(record.raw == record_body(record.id) for record in records)
    assert [record.index for record in journal.failed()] == [3, 1500, 1501]
    assert len(server.ledger) == 1_500


async def test_the_key_is_in_no_file(server, journal, tmp_path):
    """Not even where the server sends it back: in the journal, its log, or what is made of it."""
    key = "sk_test_that_must_not_be_found"
    server.api_keys = (key,)
    server.faults = {
        call_id: Fault.status(501, headers={"x-request-id": key}, body=f"bad key {key}")
        for call_id in call_ids(3)
    }
    async with fake_client(server, api_key=key) as client:
        await export_calls(client, call_ids(10), journal)
    assert len(list(journal.failed())) == 3
    render(journal.fetched(), tmp_path / "calls.jsonl")
    render_failures(journal.failed(), tmp_path / "failed.csv")
    write_report(journal, tmp_path / "report.html")
    found = [file.read_bytes() for file in tmp_path.iterdir()]
    assert len(found) >= 4
    assert not any(key.encode() in content for content in found)


async def test_what_is_settled_is_not_fetched_again(client, server, journal):
    """A second run asks for what is new or left alone, whether or not the ids are given again."""
    journal.add(call_ids(10))
    journal.settle([fetched("call-2"), missing("call-4"), sick("call-5")])
    status = await export_calls(client, None, journal)
    assert (status.fetched, status.failed, status.left) == (8, 2, 0)
    assert len(server.ledger) == 7
    status = await export_calls(client, call_ids(12), journal)
    assert (status.asked, status.duplicates, status.fetched) == (12, 0, 10)
    assert len(server.ledger) == 9


async def test_failures_are_tried_again_on_request(client, server, journal):
    """With `retry_failed` those that may succeed are, once, and keep their failure until then."""
    journal.add(call_ids(4))
    journal.settle([sick("call-0"), missing("call-1"), sick("call-2")])
    server.faults = {"call-2": SICK}
    told = []
    status = await export_calls(client, None, journal, retry_failed=True, on_outcome=told.append)
    assert Counter(e.call_id for e in server.ledger.entries) == dict.fromkeys(
        ["call-0", "call-2", "call-3"], 1
    )
    assert names(journal.fetched()) == ["call-0", "call-3"]
    assert [(r.id, r.status) for r in journal.failed()] == [("call-1", 404), ("call-2", 501)]
    assert status.failed_by == {"NotFoundError": 1, "ServerError": 1}
    assert sorted(outcome.index for outcome in told) == [0, 2, 3]


async def test_the_hook_sees_each_final_outcome(client, server, journal):
    """`on_outcome` gets records and failures, with their positions among the distinct ids."""
    server.missing = {"b"}
    told = []
    await export_calls(client, ["a", "a", "b", "", "c"], journal, on_outcome=told.append)
    assert sorted((outcome.index, outcome.id) for outcome in told) == [
        (0, "a"), (1, "b"), (2, ""), (3, "c"),
    ]  # fmt: skip
    assert sum(isinstance(outcome, Failed) for outcome in told) == 2


# --- Sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["call-1", 5], ids=["text", "number"])
async def test_one_id_is_no_list_of_ids(client, journal, ids):
    """A single `str` is refused, as everywhere."""
    with pytest.raises(ConfigurationError, match="ids must be an iterable"):
        await export_calls(client, ids, journal)


async def test_a_slow_source_is_fetched_at_once(client, server, journal):
    """What a source has given is fetched while it thinks about the next id."""

    async def ids():
        for position in range(3):
            yield f"call-{position}"
            while len(server.ledger) <= position:  # noqa: ASYNC110 (nobody would set an event)
                await asyncio.sleep(0.001)

    async with asyncio.timeout(10):
        status = await export_calls(client, ids(), journal)
    assert status.fetched == 3


@pytest.mark.parametrize("endless", ["ordinary", "asynchronous", "silent"])
async def test_a_job_can_be_stopped(client, server, journal, endless):
    """Once `stop` is set, what is in flight is finished and committed, and the rest stays left."""

    def ordinary():
        position = 0
        while True:
            yield f"call-{position}"
            position += 1

    async def asynchronous():
        for call_id in ordinary():
            yield call_id
            await asyncio.sleep(0)

    async def silent():
        for call_id in call_ids(100):
            yield call_id
        await asyncio.Event().wait()

    source = {"ordinary": ordinary, "asynchronous": asynchronous, "silent": silent}[endless]
    stop = asyncio.Event()

    def hook(_):
        if len(server.ledger) >= 100:
            stop.set()

    async with asyncio.timeout(10):
        status = await export_calls(client, source(), journal, stop=stop, on_outcome=hook)
    assert status.fetched == len(server.ledger)
    assert status.fetched + status.left == status.asked


async def test_the_source_s_error_passes_at_the_end(client, journal):
    """What it gave before is fetched and committed."""

    def ids():
        yield from call_ids(50)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        await export_calls(client, ids(), journal)
    assert journal.status().fetched == 50


async def test_a_known_source_is_not_read_again(client, server, journal):
    """What was read to its end under its digest is skipped; under another one it is read."""

    def unreadable():
        raise AssertionError("it was read")
        yield

    await export_calls(client, call_ids(5), journal, digest="one")
    await export_calls(client, unreadable(), journal, digest="one")
    status = await export_calls(client, [*call_ids(5), "new"], journal, digest="two")
    assert (status.asked, status.fetched) == (6, 6)
    assert len(server.ledger) == 6


async def test_a_source_that_was_read_in_part_is_read_on(client, journal):
    """The ids that were committed under its digest are passed over without being looked up."""

    def first():
        yield from ["a", "b"]
        raise LookupError

    with pytest.raises(LookupError):
        await export_calls(client, first(), journal, digest="one")
    # Other ids under the same digest cannot be; here they show what is passed over.
    status = await export_calls(client, ["x", "y", "c"], journal, digest="one")
    assert status.asked == 3
    assert names(journal.fetched()) == ["a", "b", "c"]


# --- Runs that end early -------------------------------------------------------------------------


async def test_a_refused_key_settles_nothing(server, journal):
    """The job raises it, and its ids stay left: nothing was found out about them."""
    async with fake_client(server, api_key="sk_test_wrong") as client:
        with pytest.raises(AuthenticationError):
            await export_calls(client, call_ids(300), journal)
    status = journal.status()
    assert (status.asked, status.fetched, status.failed, status.left) == (300, 0, 0, 300)


async def test_ended_patience_settles_nothing(server, journal):
    """Where nobody answers, the job raises that, and its ids stay left."""
    server.reachable = False
    limits = Limits(max_concurrency=4, patience=0.05)
    async with fake_client(server, limits=limits) as client:
        with pytest.raises(Exception, match="unreachable") as caught:
            await export_calls(client, call_ids(30), journal)
    assert caught.value.stopped_by is StoppedBy.PATIENCE
    status = journal.status()
    assert (status.failed, status.left) == (0, 30)


async def test_a_closed_client_settles_nothing(server, journal):
    """A client that is closed under the job ends it; what is not fetched stays left."""
    server.latency = 0.001
    client = fake_client(server, limits=Limits(max_concurrency=4))
    job = asyncio.create_task(export_calls(client, call_ids(1_000), journal))
    while len(server.ledger) < 50:  # noqa: ASYNC110 (nobody would set an event)
        await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientClosedError):
        await job
    status = journal.status()
    assert status.failed == 0
    assert status.left == status.asked - status.fetched > 0


async def test_a_cancelled_job_keeps_what_it_fetched(client, server, journal):
    """The outcomes that came before the cancellation are committed."""
    came = []
    enough = asyncio.Event()

    def hook(outcome):
        came.append(outcome.id)
        if len(came) == 100:
            enough.set()

    job = asyncio.create_task(export_calls(client, call_ids(1_000), journal, on_outcome=hook))
    await enough.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert sorted(names(journal.fetched())) == sorted(came)
    assert len(server.ledger) - len(came) <= 16  # the window, and what waited for the job
    status = await export_calls(client, None, journal)
    assert status.left == 0


async def test_fail_fast_ends_at_the_first_failure(client, server, journal):
    """The error is raised; it and what was in flight are in the journal."""
    server.missing = {"call-50"}
    with pytest.raises(NotFoundError):
        await export_calls(client, call_ids(1_000), journal, fail_fast=True)
    status = journal.status()
    assert names(journal.failed()) == ["call-50"]
    assert len(server.ledger) == status.fetched + 1 < 100


async def test_fail_fast_ends_at_an_invalid_id(client, journal):
    """What is no id fails the job as well."""
    with pytest.raises(InvalidCallIdError):
        await export_calls(client, ["a", ""], journal, fail_fast=True)
    assert names(journal.failed()) == [""]


async def test_the_hook_s_error_passes(client, journal):
    """What the caller's own code raises ends the job, after a commit."""

    def hook(_):
        raise LookupError("of the caller's")

    with pytest.raises(LookupError):
        await export_calls(client, call_ids(100), journal, on_outcome=hook)
    assert journal.status().fetched == 1


async def test_a_full_disk_ends_the_job(client, journal):
    """The job raises a `JournalError`; what was committed before is kept."""
    db = store_of(journal)._writer
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 40}")
    with pytest.raises(JournalError, match="no room"):
        await export_calls(client, call_ids(1_500), journal)
    db.execute("PRAGMA max_page_count = 1000000")
    status = await export_calls(client, call_ids(1_500), journal)
    assert (status.fetched, status.left) == (1_500, 0)


# --- One at a time -------------------------------------------------------------------------------


async def test_a_journal_has_one_job_at_a_time(client, journal):
    """While it is at work, nobody else of the process writes; reading is always possible."""
    seen = []

    def hook(_):
        seen.append(journal.status().asked)
        for use in (lambda: journal.add(["x"]), lambda: journal.settle([]), journal.close):
            with pytest.raises(JournalError, match="export_calls is at work"):
                use()

    await export_calls(client, ["a"], journal, on_outcome=hook)
    assert seen == [1]
    assert journal.add(["x"]) == 1


async def test_a_journal_that_is_read_takes_no_job(client, server, journal):
    """It is refused before anything is sent."""
    with (
        Journal.open(journal.path, read_only=True) as reader,
        pytest.raises(JournalError, match="read only"),
    ):
        await export_calls(client, ["a"], reader)
    assert len(server.ledger) == 0


# --- The rule of finality ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "attempts", "final"),
    [
        (ServerError("", status=500, stopped_by=StoppedBy.ATTEMPTS), 4, True),
        (NotFoundError("", status=404, stopped_by=StoppedBy.FINAL), 1, True),
        (InvalidCallIdError(""), 0, True),
        (DeadlineExceededError("", stopped_by=StoppedBy.DEADLINE), 2, True),
        (DeadlineExceededError("", stopped_by=StoppedBy.DEADLINE), 0, False),
        (ServerError("", status=500, stopped_by=StoppedBy.PATIENCE), 4, False),
        (AuthenticationError("", status=401, stopped_by=StoppedBy.KEY_REFUSED), 1, False),
        (ClientClosedError("", stopped_by=StoppedBy.CLOSED), 1, False),
        (ConfigurationError(""), 0, False),
    ],
)
def test_what_is_final(error, attempts, final):
    """A failure is the id's when something was found out about it, and otherwise the job's."""
    assert is_final(Failed(id="a", error=error, attempts=attempts, elapsed=1.0)) is final
