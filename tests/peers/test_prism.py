"""Against Prism: the contract as the vendor's page has it judges our requests and our answers."""

from __future__ import annotations

import json

import pytest
from tenacity import retry_if_exception_type

from calls_async import (
    AuthenticationError,
    CallsClient,
    CallsError,
    DecodeError,
    MismatchedCallError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    structure_call,
    unstructure_call,
)
from calls_async.testing import Fault, Sandbox
from tests.documents import example, normal_form
from tests.kit import call_ids
from tests.peers.cases import KEY
from tests.peers.prism import missing, running

pytestmark = pytest.mark.peer

POLICY = RetryPolicy(
    max_attempts=2, backoff_base=0.0, max_throttled_attempts=2, throttle_backoff_base=0.0
)
DOCUMENTS = 300


@pytest.fixture(scope="module")
def installed():
    """Skip where there is no Prism."""
    if (why := missing()) is not None:
        pytest.skip(why)


@pytest.fixture(scope="module")
def prism(installed, tmp_path_factory):  # noqa: ARG001 (it skips)
    """One that plays the server, for the module: it takes seconds to start."""
    with running(tmp_path_factory.mktemp("prism")) as prism:
        yield prism


async def test_the_page_s_example(prism):
    """What the contract shows is the record that we read, of one request that it found valid."""
    call_id = example()["id"]
    async with CallsClient(KEY, base_url=prism.url) as client:
        fetched = await client.fetch_call(call_id)
    assert fetched.call == structure_call(example())
    assert json.loads(fetched.raw) == example()
    assert prism.saw(1, call_id)


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (401, AuthenticationError, 1),
        (403, PermissionDeniedError, 1),
        (404, NotFoundError, 1),
        (429, RateLimitedError, 2),
        (500, ServerError, 2),
        (503, RateLimitedError, 2),
    ],
)
async def test_each_failure_of_the_contract(prism, status, kind, attempts):
    """Asked for by `Prefer`, it comes as its error, after as many requests as are counted."""
    call_id, prefer = f"failing-{status}", {"Prefer": f"code={status}"}
    async with CallsClient(KEY, base_url=prism.url, retry=POLICY, headers=prefer) as client:
        with pytest.raises(CallsError) as failure:
            await client.get_call(call_id)
        requests = client.statistics().requests
    assert type(failure.value) is kind
    assert failure.value.retry_after == (1.0 if status in {429, 503} else None)
    assert failure.value.attempts == requests == attempts
    assert prism.saw(attempts, call_id)


async def test_another_id_s_record_is_withheld(prism):
    """Prism knows one record only; it is asked twice, and nobody gets it as another's."""
    async with CallsClient(KEY, base_url=prism.url) as client:
        with pytest.raises(MismatchedCallError) as failure:
            await client.get_call("another")
    assert failure.value.received_id == example()["id"]
    assert failure.value.attempts == 2
    assert prism.saw(2, "another")


def test_whatever_the_contract_allows_is_read(prism):
    """A random document is a call that comes back out as it was, or it has an object for a scalar.

    The page calls some members `object` and shows strings; what such an object would hold, nobody
    knows, so it is refused by its path.
    """
    read = 0
    for seed in range(DOCUMENTS):
        document = prism.document(seed)
        loose = ("startedAt", "endedAt", "syncedWithCrmDate", "adminProviderSid")
        objects = {name for name in loose if isinstance(document.get(name), dict)}
        if objects:
            with pytest.raises(DecodeError) as failure:
                structure_call(document)
            assert {each.path for each in failure.value.violations} == {f"$.{n}" for n in objects}
            continue
        read += 1
        call = structure_call(document)
        assert unstructure_call(call) == normal_form(document)
        assert structure_call(unstructure_call(call)) == call
    print(f"{read} of {DOCUMENTS} random documents are calls")  # noqa: T201 (for the reader)
    assert read > DOCUMENTS // 20


async def test_the_sandbox_keeps_the_contract(installed, tmp_path):  # noqa: ARG001 (it skips)
    """Prism between client and sandbox objects to no request and to none of its records."""
    ids = [*call_ids(100), "with space", "a/b", "percent%2F", "\N{SNOWMAN}", "?query#fragment"]
    async with Sandbox(api_keys={KEY}) as sandbox:
        with running(tmp_path, before=sandbox.base_url) as prism:
            # What Prism objects to is a 500: once is enough to know.
            once = RetryPolicy(retry=retry_if_exception_type(()))
            async with CallsClient(KEY, base_url=prism.url, retry=once) as client:
                calls = await client.gather_calls(ids)
                requests = client.statistics().requests
            assert prism.saw(requests)
        assert len(sandbox.ledger) == requests == len(ids)
    assert [call.id for call in calls] == ids


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_the_sandbox_fails_as_the_contract_says(installed, tmp_path, status):  # noqa: ARG001
    """Prism hands its refusals on, because it finds nothing wrong with them."""
    async with Sandbox(api_keys={KEY}, faults={"call-1": Fault.status(status)}) as sandbox:
        with running(tmp_path, before=sandbox.base_url) as prism:
            policy = RetryPolicy(max_attempts=1, max_throttled_attempts=1)
            async with CallsClient(KEY, base_url=prism.url, retry=policy) as client:
                with pytest.raises(CallsError) as failure:
                    await client.get_call("call-1")
        assert len(sandbox.ledger) == 1
    assert failure.value.status == status
    assert "violation" not in failure.value.body.lower()


async def test_the_judge_objects(installed, tmp_path):  # noqa: ARG001 (it skips)
    """A record that breaks the contract does not get past Prism: so its silence means something."""
    async with Sandbox(api_keys={KEY}, faults={"call-1": Fault.bad_record}) as sandbox:
        with running(tmp_path, before=sandbox.base_url) as prism:
            policy = RetryPolicy(max_attempts=1)
            async with CallsClient(KEY, base_url=prism.url, retry=policy) as client:
                with pytest.raises(ServerError) as failure:
                    await client.get_call("call-1")
                await client.get_call("call-2")
    assert "VIOLATIONS" in failure.value.body
