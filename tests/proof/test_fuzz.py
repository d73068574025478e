"""A few generated inputs of every target that is fuzzed, and that the fuzzing can fail."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest

from calls_async.errors import ProtocolError
from tests.proof import fuzz, fuzzing, generated, targets
from tests.proof.tally import Tally
from tests.rawserver import http, record

BY_NAME = {target.name: target for target in targets.TARGETS}


@pytest.fixture(scope="module", autouse=True)
def peer():
    """Close the server that the targets share."""
    yield
    targets.PEER.close()


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_nothing_foreign_and_nothing_wrong(name):
    """What is generated ends as the target's judge says; the full form tries 100 times as many."""
    ends: Counter[str] = Counter()
    target = BY_NAME[name]
    examples = target.examples // fuzz.SHARE
    targets.as_test(target, examples=examples, ended=lambda end: ends.update([end]))()
    assert ends.total() >= examples


@pytest.mark.parametrize("judge", [targets.judge_client, targets.judge_legal])
def test_an_answer_without_fault_is_read(judge):
    """The judges see a record where there is one."""
    assert judge(generated.Planned(http(record()), record(), "close")) == "record"


def test_a_wrong_record_is_found():
    """A record that the answer does not carry is no end that a judge accepts."""
    planned = generated.Planned(http(record()), record(notes="another"), "close")
    with pytest.raises(AssertionError):
        targets.judge_client(planned)
    with pytest.raises(AssertionError):
        targets.judge_client(attrs.evolve(planned, record=None))


def test_a_refused_answer_without_fault_is_found():
    """An answer that has to be read may not end as an error."""
    with pytest.raises(AssertionError):
        targets.judge_legal(generated.Planned(b"HTTP/1.1 200 OK\r\n", record(), "close"))


def test_what_escapes_is_told_with_its_example():
    """The sweep counts a foreign exception, a hang and a wrong record, each with its input."""
    target = BY_NAME["headers"]
    for error, kind in ((OSError, "foreign"), (TimeoutError, "hangs"), (AssertionError, "wrong")):

        def judge(_, error=error):
            raise error("x")

        tally = Tally("fuzz")
        fuzz.fuzz(attrs.evolve(target, judge=judge), 3, tally)
        assert len(tally.bad) == 1
        assert tally.bad[0].startswith(f"{kind}: headers: {error.__name__}('x')")


def test_an_error_of_ours_is_told_by_its_type():
    """What is cut ends as an error that has a name."""
    planned = generated.Planned(http(record())[:-5], record(), "close")
    assert targets.judge_client(planned) == ProtocolError.__name__


def test_atheris_is_skipped_by_name(monkeypatch, capsys):
    """Where atheris is not installed, the coverage-guided form says so and fails nothing."""
    monkeypatch.setitem(fuzzing.sys.modules, "atheris", None)
    assert fuzzing.main(["--seconds", "1"]) == 0
    assert "skipped: " in capsys.readouterr().out
