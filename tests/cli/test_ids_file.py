"""Reading ids: what is skipped, what is refused, and with which line."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async.cli._exits import CommandError, Exit
from calls_async.cli._ids_file import read_ids

NO_ENDS = st.characters(codec="utf-8", exclude_characters="\n\r\t \ufeff")
IDS = st.lists(st.text(NO_ENDS, min_size=1, max_size=8), min_size=1)
BETWEEN = st.sampled_from(["\n", "\r\n", "\n\n", " \r\n\t\r\n", "\n  "])


@pytest.fixture
def written(tmp_path):
    """Writes a file of ids and reads it."""

    def write(content):
        path = tmp_path / "ids.txt"
        path.write_bytes(content)
        return read_ids(str(path))

    return write


def refusal(name):
    with pytest.raises(CommandError) as caught:
        read_ids(str(name))
    assert caught.value.code is Exit.USAGE
    return caught.value.line


@given(ids=IDS, data=st.data(), mark=st.sampled_from([b"", codecs.BOM_UTF8]))
def test_ids_survive_every_way_to_write_lines(tmp_path_factory, ids, data, mark):
    """Line ends, blank lines, blanks around ids and a byte order mark never change an id."""
    path = tmp_path_factory.getbasetemp() / "ids.txt"
    path.write_bytes(mark + "".join(i + data.draw(BETWEEN) for i in ids).encode())
    found = read_ids(str(path))
    assert found.ids == list(dict.fromkeys(ids))
    assert found.duplicates == len(ids) - len(found.ids)


def test_the_last_line_needs_no_end(written):
    """A file may end without a line end."""
    assert written(b"a\nb").ids == ["a", "b"]


def test_only_line_feeds_end_lines(written):
    """Characters that Python takes for line ends, and ids may have, do not split an id."""
    text = "a\x0bb\x85c\u2028d"
    assert written(text.encode()).ids == [text]


def test_a_mark_counts_at_the_start_alone(written):
    """Further on, a byte order mark is a character of its id."""
    assert written("a\n\ufeffb\n".encode()).ids == ["a", "\ufeffb"]


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t\n", codecs.BOM_UTF8])
def test_a_file_without_ids_is_refused(tmp_path, content):
    """Nothing to fetch is a mistake, and not a success."""
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    assert refusal(path) == f"{path} has no ids: put one on each line"


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path):
    """The line with the first wrong byte is named."""
    path = tmp_path / "ids.txt"
    path.write_bytes("a\r\n\r\nZoë".encode("latin-1"))
    assert refusal(path) == f"{path}, line 3: not UTF-8; save the file as UTF-8"


def test_what_a_windows_shell_writes_is_refused(tmp_path):
    """UTF-16, which PowerShell redirects to, is not taken for ids."""
    path = tmp_path / "ids.txt"
    path.write_text("a\nb\n", encoding="utf-16")
    assert refusal(path).endswith("line 1: not UTF-8; save the file as UTF-8")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """A missing file and a folder are told as the system tells them."""
    assert (
        refusal(tmp_path / "none") == f"cannot read {tmp_path / 'none'}: No such file or directory"
    )
    assert refusal(tmp_path).startswith(f"cannot read {tmp_path}: ")
