"""Output files: whole under their own name, or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from calls_async.cli._exits import CommandError, Exit
from calls_async.cli._output import WholeFile

pytestmark = pytest.mark.usefixtures("folder")

FULL = Path("/dev/full")


def refusal(name, *, force=False):
    with pytest.raises(CommandError) as caught:
        WholeFile(name, force=force)
    assert caught.value.code is Exit.USAGE
    return caught.value.line


def names():
    return sorted(path.name for path in Path().iterdir())


def fill_up(file):
    """Let the disk of an open file be full from here on."""
    file._file.close()
    file._file = FULL.open("wb", buffering=0)


def test_it_appears_when_it_is_committed():
    """Until then, only the part is there; afterwards, only the file."""
    with WholeFile("a.csv", head=b"id\n", force=False) as file:
        file.write(b"1\n")
        assert names() == ["a.csv.part"]
        file.commit()
    assert names() == ["a.csv"]
    assert Path("a.csv").read_bytes() == b"id\n1\n"
    assert file.lines == 1


def test_without_a_commit_the_lines_stay_in_the_part():
    """What ended early left nothing under the name, and lost no line."""
    with WholeFile("a.csv", head=b"id\n", force=False) as file:
        file.write(b"1\n")
    assert names() == ["a.csv.part"]
    assert Path("a.csv.part").read_bytes() == b"id\n1\n"


def test_without_a_line_nothing_stays():
    """A head alone is not worth a file."""
    with WholeFile("a.csv", head=b"id\n", force=False):
        pass
    assert names() == []


@pytest.mark.parametrize("existing", ["a.jsonl", "a.jsonl.part"])
def test_what_exists_is_replaced_only_by_force(existing):
    """Neither a file nor somebody's part of it is overwritten unasked."""
    Path(existing).write_text("old")
    line = f"{existing} exists already: choose another name, or --force to replace it"
    assert refusal("a.jsonl") == line
    assert Path(existing).read_text() == "old"
    with WholeFile("a.jsonl", force=True) as file:
        file.write(b"new")
        file.commit()
    assert names() == ["a.jsonl"]
    assert Path("a.jsonl").read_text() == "new"


def test_an_old_file_stays_until_the_new_one_is_whole():
    """Force or not, a run that ends early costs no older file."""
    Path("a.jsonl").write_text("old")
    with WholeFile("a.jsonl", force=True) as file:
        file.write(b"new")
    assert Path("a.jsonl").read_text() == "old"


def test_of_two_writers_one_is_refused():
    """Two commands that write the same file cannot mix their lines."""
    with WholeFile("a.jsonl", force=False):
        assert refusal("a.jsonl").startswith("a.jsonl.part exists already")


def test_a_folder_that_is_missing_is_refused(folder):
    """The folder is named, and not made."""
    assert refusal("no/a.csv") == f"there is no folder {folder}/no: make it, or choose another"
    assert names() == []


@pytest.mark.parametrize("name", [".", os.devnull])
def test_what_is_no_file_is_refused(name):
    """A folder, and a device too, cannot be replaced by a file, even by force."""
    assert refusal(name, force=True) == f"{name} is no regular file: choose another name"


def test_what_the_system_refuses_is_one_line():
    """A name that no file can have is told as the system tells it."""
    name = "a" * 300
    assert refusal(name) == f"cannot write {name}: File name too long"


def test_a_link_is_followed():
    """The file that a symbolic link leads to is replaced, and not the link."""
    Path("real.jsonl").write_text("old")
    Path("link.jsonl").symlink_to("real.jsonl")
    with WholeFile("link.jsonl", force=True) as file:
        file.write(b"new")
        file.commit()
    assert Path("link.jsonl").is_symlink()
    assert Path("real.jsonl").read_text() == "new"


def test_it_has_the_usual_permissions():
    """The file is as readable as any other that the user makes."""
    with WholeFile("a.csv", force=False) as file:
        file.write(b"1\n")
        file.commit()
    Path("usual").touch()
    assert stat.S_IMODE(Path("a.csv").stat().st_mode) == stat.S_IMODE(Path("usual").stat().st_mode)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line():
    """The line says what happened, what to do, and where the lines so far are."""
    with WholeFile("a.csv", force=False) as file:
        file.write(b"1\n")
        fill_up(file)
        with pytest.raises(CommandError) as caught:
            file.write(b"2\n")
    assert caught.value.code is Exit.FAILED
    assert caught.value.line == (
        "cannot write a.csv: No space left on device; make room, or choose another place "
        "(the 1 line so far: a.csv.part)"
    )
    assert names() == ["a.csv.part"]


def test_a_commit_that_fails_is_one_line(folder):
    """What cannot take its name stays as the part."""
    with WholeFile("a.csv", force=False) as file:
        file.write(b"1\n")
        (folder / "a.csv").mkdir()
        with pytest.raises(CommandError, match=r"cannot write a\.csv: .*: a\.csv\.part"):
            file.commit()
    assert Path("a.csv.part").read_bytes() == b"1\n"
