"""The key at hand: a provider is asked for the first key, and again once per refused key."""

from __future__ import annotations

import asyncio
import gc

import pytest

from calls_async import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DeadlineExceededError,
    Limits,
    StoppedBy,
    Timeouts,
)
from calls_async._credentials import Credentials
from calls_async._secret import ApiKey
from calls_async.testing import FakeTransport, fake_client
from tests.kit import call_ids, in_virtual_time, other_tasks

OLD, NEW = "sk_test_the_old_one", "sk_test_the_new_one"


class Vault:
    """A provider that gives these keys one after the other, and counts how often it is asked.

    Args:
        answers: Keys, or exceptions to raise; the last one is given again and again.
        pause: Seconds that an answer takes; without it the provider is a plain function.
    """

    def __init__(self, *answers, pause=None):
        self._answers = list(answers)
        self._pause = pause
        self.asked = 0

    def __call__(self):
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer_of(answer) if self._pause is None else self._later(answer)

    async def _later(self, answer):
        await asyncio.sleep(self._pause)
        return answer_of(answer)


def answer_of(answer):
    if isinstance(answer, BaseException):
        raise answer
    return answer


# --- The first key -------------------------------------------------------------------------------


async def test_a_fixed_key_is_at_hand_and_never_renewed():
    """A key given as text is there from the start; once refused, there is no other."""
    key = ApiKey(OLD)
    credentials = Credentials(key)
    assert credentials.held is await credentials.current() is key
    assert await credentials.renewed(key) is None
    assert credentials.held is key


@pytest.mark.parametrize("pause", [None, 0.5])
@in_virtual_time
async def test_a_provider_is_asked_when_the_first_key_is_needed(pause):
    """Plain function or coroutine function: it is asked once, however many wait."""
    vault = Vault(NEW, pause=pause)
    credentials = Credentials(vault)
    assert credentials.held is None
    assert vault.asked == 0
    keys = await asyncio.gather(*[credentials.current() for _ in range(100)])
    assert {key.authorization() for key in keys} == {f"Bearer {NEW}"}
    assert vault.asked == 1


@pytest.mark.parametrize("pause", [None, 0.5])
@pytest.mark.parametrize("rubbish", [None, b"bytes", 7, "", "with space", "Bearer x", "line\n"])
@in_virtual_time
async def test_what_cannot_be_a_key_is_refused(rubbish, pause):
    """A provider that gives rubbish is a `ConfigurationError` that does not quote it."""
    transport = FakeTransport(api_keys=[NEW])
    async with fake_client(transport, api_key=Vault(rubbish, pause=pause)) as client:
        with pytest.raises(ConfigurationError, match="api_key provider gave") as caught:
            await client.get_call("call-1")
    assert caught.value.stopped_by is StoppedBy.KEY_REFUSED
    assert caught.value.call_id == "call-1"
    assert len(transport.ledger) == 0


@pytest.mark.parametrize("pause", [None, 0.5])
@in_virtual_time
async def test_a_provider_that_raises_is_heard_and_asked_again(pause):
    """Its exception is the cause; the next call asks anew, because the vault may be back."""
    sealed = RuntimeError("the vault is sealed")
    vault = Vault(sealed, NEW, pause=pause)
    async with fake_client(FakeTransport(api_keys=[NEW]), api_key=vault) as client:
        with pytest.raises(ConfigurationError, match="RuntimeError") as caught:
            await client.get_call("call-1")
        assert caught.value.__cause__ is sealed
        assert (await client.get_call("call-1")).id == "call-1"
    assert vault.asked == 2


@in_virtual_time
async def test_a_provider_that_raises_ends_a_batch_unsent():
    """Without a key nothing of a batch is sent, and all of it gets that error."""
    vault = Vault(RuntimeError("sealed"))
    transport = FakeTransport()
    async with fake_client(transport, api_key=vault) as client:
        mixed = await client.gather_calls(call_ids(50), return_exceptions=True)
    assert {type(error) for error in mixed} == {ConfigurationError}
    assert len(transport.ledger) == 0
    assert vault.asked == 1


# --- Another key ---------------------------------------------------------------------------------


@in_virtual_time
async def test_a_hundred_refusals_at_once_ask_once():
    """However many calls meet the rotation at the same moment, all use the one new key."""
    vault = Vault(OLD, NEW, pause=0.5)
    transport = FakeTransport(api_keys=[NEW], latency=0.1)
    async with fake_client(transport, api_key=vault, limits=Limits(max_concurrency=100)) as client:
        calls = await client.gather_calls(call_ids(100))
        assert [call.id for call in calls] == call_ids(100)
        assert vault.asked == 2
        await client.get_call("later")
    assert vault.asked == 2
    refused = [entry for entry in transport.ledger.entries if not entry.key_accepted]
    assert len(refused) == 100
    assert len(transport.ledger) == 201


@in_virtual_time
async def test_nobody_sends_a_key_that_is_being_replaced():
    """While the provider is asked, further calls wait for the new key."""
    vault = Vault(OLD, NEW, pause=5.0)
    transport = FakeTransport(api_keys=[NEW])
    async with fake_client(transport, api_key=vault) as client, asyncio.TaskGroup() as group:
        group.create_task(client.get_call("first"))
        await asyncio.sleep(6)  # by now the old key is refused
        group.create_task(client.get_call("second"))
    assert [entry.key_accepted for entry in transport.ledger.entries] == [False, True, True]


@in_virtual_time
async def test_a_parked_call_takes_the_newest_key():
    """A call that waited for its permit does not use the key that was refused meanwhile."""
    vault = Vault(OLD, NEW)
    transport = FakeTransport(api_keys=[NEW], latency=1.0)
    one = Limits(max_concurrency=1)
    async with (
        fake_client(transport, api_key=vault, limits=one) as client,
        asyncio.TaskGroup() as group,
    ):
        for call_id in call_ids(3):
            group.create_task(client.get_call(call_id))
    refused = [entry for entry in transport.ledger.entries if not entry.key_accepted]
    assert len(refused) == 1


@in_virtual_time
async def test_a_refused_key_is_asked_about_once():
    """A provider that has no other key is not asked again and again."""
    vault = Vault(OLD)
    transport = FakeTransport(api_keys=[NEW])
    async with fake_client(transport, api_key=vault) as client:
        for _ in range(3):
            with pytest.raises(AuthenticationError) as caught:
                await client.get_call("call-1")
            assert caught.value.stopped_by is StoppedBy.KEY_REFUSED
    assert vault.asked == 2
    assert len(transport.ledger) == 3


@in_virtual_time
async def test_two_refused_keys_in_turn_are_each_asked_about_once():
    """A provider that goes back and forth between refused keys cannot keep a call going."""
    vault = Vault(*[OLD, "sk_test_other"] * 50)
    transport = FakeTransport(api_keys=[NEW])
    async with fake_client(transport, api_key=vault) as client:
        with pytest.raises(AuthenticationError):
            await client.get_call("call-1")
    assert vault.asked == 3
    assert len(transport.ledger) == 3


@in_virtual_time
async def test_a_refused_key_is_let_go():
    """However often a key is rotated, no more keys are held than the one in use."""
    credentials = Credentials(Vault(*(f"sk_test_number_{number}" for number in range(20))))
    before = keys_in_memory()
    key = await credentials.current()
    for _ in range(19):
        key = await credentials.renewed(key)
    assert keys_in_memory() == before + 1


def keys_in_memory():
    gc.collect()
    return sum(type(each) is ApiKey for each in gc.get_objects())


async def test_a_renewal_that_fails_ends_the_call_and_not_the_client():
    """The refused key is used no more; when the provider is back, so is the client."""
    vault = Vault(OLD, RuntimeError("sealed"), NEW)
    transport = FakeTransport(api_keys=[NEW], latency=0.1)
    async with fake_client(transport, api_key=vault) as client:
        both = await asyncio.gather(
            client.get_call("a"), client.get_call("b"), return_exceptions=True
        )
        assert {type(error) for error in both} == {ConfigurationError, AuthenticationError}
        assert {error.stopped_by for error in both} == {StoppedBy.KEY_REFUSED}
        assert vault.asked == 2
        assert (await client.get_call("c")).id == "c"
    assert [entry.key_accepted for entry in transport.ledger.entries] == [False, False, True]


@in_virtual_time
async def test_after_a_cancelled_renewal_the_next_in_line_asks():
    """A call that gives up while it asks for all leaves neither a deaf client nor an old key."""
    vault = Vault(OLD, NEW, NEW, pause=1.0)
    transport = FakeTransport(api_keys=[NEW])
    async with fake_client(transport, api_key=vault) as client:
        impatient = asyncio.create_task(client.get_call("impatient", timeout=1.5))
        patient = asyncio.create_task(client.get_call("patient"))
        with pytest.raises(DeadlineExceededError):
            await impatient
        assert (await patient).id == "patient"
    assert vault.asked == 3


# --- A provider that hangs -----------------------------------------------------------------------


@pytest.mark.parametrize("answers", [(NEW,), (OLD, NEW)])
@in_virtual_time
async def test_a_provider_that_hangs_costs_no_more_than_the_call(answers):
    """For the first key and for a renewal alike, the call's own time is the limit."""
    slow = Vault(*answers, pause=1e9)
    quick = Vault(*answers)

    def provider():
        return quick() if quick.asked < len(answers) - 1 else slow()

    transport = FakeTransport(api_keys=[NEW])
    async with fake_client(transport, api_key=provider) as client:
        with pytest.raises(DeadlineExceededError, match="api_key provider") as caught:
            await client.get_call("call-1", timeout=7)
        assert asyncio.get_running_loop().time() == pytest.approx(7)
        assert caught.value.stopped_by is StoppedBy.DEADLINE
        assert caught.value.attempts == len(transport.ledger) == len(answers) - 1


@in_virtual_time
async def test_a_provider_that_hangs_ends_a_batch():
    """In a batch it has the time of one call; then nothing more is asked or sent."""
    transport = FakeTransport()
    never = Vault(NEW, pause=1e9)
    options = {"api_key": never, "timeouts": Timeouts(total=5), "limits": Limits(patience=20)}
    async with fake_client(transport, **options) as client:
        mixed = await client.gather_calls(call_ids(10), return_exceptions=True)
    assert {type(error) for error in mixed} == {DeadlineExceededError}
    assert len(transport.ledger) == 0
    assert asyncio.get_running_loop().time() <= 20


@in_virtual_time
async def test_closing_the_client_ends_the_wait_for_a_key():
    """A call that waits for the provider ends with the client, and leaves no task."""
    client = fake_client(api_key=Vault(NEW, pause=1e9))
    waiting = asyncio.create_task(client.get_call("call-1"))
    await asyncio.sleep(1)
    await client.close()
    with pytest.raises(ClientClosedError):
        await waiting
    assert asyncio.get_running_loop().time() == 1.0
    assert other_tasks() == set()
