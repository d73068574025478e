"""Whether the tests notice a mutant; the rule: it is killed only if a test fails because of it.

Two ways, because there are thousands. Warm: the tests are collected once, and each mutant gets a
forked process in which its function's code is swapped before they run. Cold: the module is imported
anew from the changed source. That takes ten times as long, and is for what has an effect before the
tests run: tables, defaults, and functions that are called while everything is imported.

What never ends is killed as well, by a limit of processor time, so that a busy machine changes no
result.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.mutation.mutants import Mutant

# Few examples, the same ones each time, and none is made smaller: that something fails is enough.
settings.register_profile(
    "mutation",
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=30,
    phases=(Phase.explicit, Phase.generate),
)
OPTIONS: Final = (
    *("-qq", "-s", "-x", "-p", "no:cacheprovider", "--hypothesis-profile=mutation"),
    # Plugins that are imported here already need no rewritten assertions.
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
)
PACKAGE: Final = "calls_async"
SURVIVED: Final = 0
KILLED: Final = 1
UNDECIDED: Final = 3
"""The warm way cannot tell: the change is in nothing that a function runs."""
MOST_SECONDS: Final = 20
"""Of processor time; all tests of one module take a few."""
MOST_WAITING: Final = 120
"""Seconds after which a process that uses no processor time is stopped."""
MOST_MEMORY: Final = 2 << 30


@attrs.frozen
class Subject:
    """One module of the package, and the test files that judge it."""

    name: str
    tests: Sequence[str]

    @property
    def module(self) -> str:
        """Its name for `import`."""
        return f"{PACKAGE}.{self.name}"

    @property
    def file(self) -> Path:
        """Its source."""
        return Path(PACKAGE, f"{self.name}.py")


def survivors(subject: Subject, mutants: Sequence[Mutant]) -> Iterator[Mutant]:
    """The mutants that no test notices.

    Raises:
        RuntimeError: The tests fail without any change, or pass without the module.
    """
    _preload()
    if _forked(lambda: _cold(subject, subject.file.read_text(encoding="utf-8"))) != SURVIVED:
        raise RuntimeError(f"the tests of {subject.name} fail on the module as it is")
    if _forked(lambda: _cold(subject, "1 / 0")) == SURVIVED:
        raise RuntimeError(f"what is done to {subject.name} does not reach its tests")
    ends = _warm_ends(subject, mutants)
    for number, mutant in enumerate(mutants):
        end = ends.get(number, UNDECIDED)
        if end == UNDECIDED:
            end = _forked(lambda mutant=mutant: _cold(subject, mutant.source()))
        if end == SURVIVED:
            yield mutant


def _preload() -> None:
    """Import what the package needs, so that forked processes have it; the package itself not."""
    for name in ("aiohttp.web", "aiohttp.test_utils", "attrs", "cattrs.gen", "orjson", "tenacity"):
        importlib.import_module(name)


def _forked(work: Callable[[], int], *, limited: bool = True) -> int:
    """Do work in a process of its own; what it gave, or `KILLED` if it did not end well."""
    pid = os.fork()
    if pid == 0:
        code = KILLED
        try:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            if limited:
                resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
                resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
                signal.alarm(MOST_WAITING)
            code = work()
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else KILLED


# --- Cold ----------------------------------------------------------------------------------------


class _Changed(SourceFileLoader, MetaPathFinder):
    """Finds and loads one module from another text than its file has."""

    def __init__(self, subject: Subject, source: str) -> None:
        super().__init__(subject.module, str(subject.file.resolve()))
        self._source = source

    def find_spec(self, fullname: str, *_: Any) -> Any:
        if fullname != self.name:
            return None
        return spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the interface's
        return compile(self._source, self.path, "exec", dont_inherit=True)


def _cold(subject: Subject, source: str) -> int:
    sys.meta_path.insert(0, _Changed(subject, source))
    # Now, because pytest's own finder would go before ours: the package is one of its plugins.
    importlib.import_module(subject.module)
    return int(pytest.main([*OPTIONS, *subject.tests]))


# --- Warm ----------------------------------------------------------------------------------------


class _Judge:
    """A plugin that runs the collected tests once for each mutant, instead of once.

    Args:
        told: A file descriptor for the ends, a line each: the mutant's number and how it ended.
    """

    def __init__(self, subject: Subject, mutants: Sequence[Mutant], told: int) -> None:
        self._subject = subject
        self._mutants = mutants
        self._told = told
        self._called: set[str] = set()
        self._file = str(subject.file.resolve())
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        """Put down what is called before the tests run, because that cannot be swapped any more."""
        if event == "call" and frame.f_code.co_filename == self._file:
            self._called.add(frame.f_code.co_qualname.partition(".<locals>")[0])

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.setprofile(None)
        functions = dict(_functions(importlib.import_module(self._subject.module)))
        for number, mutant in enumerate(self._mutants):
            function = functions.get(mutant.function or "")
            if function is None:
                continue
            code = self._end(session, mutant, function)
            if code == SURVIVED and mutant.function in self._called:
                continue
            os.write(self._told, f"{number} {code}\n".encode())
        return True

    def _end(self, session: pytest.Session, mutant: Mutant, function: FunctionType) -> int:
        received, sent = os.pipe()

        def work() -> int:
            if not _swapped(function, mutant):
                return UNDECIDED
            for place, item in enumerate(session.items):
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if session.testsfailed:
                    os.write(sent, str(place).encode())
                    return KILLED
            return SURVIVED

        code = _forked(work)
        os.close(sent)
        with os.fdopen(received) as killer:
            place = killer.read()
        if place:  # it will kill the next one as well, as a rule
            session.items.insert(0, session.items.pop(int(place)))
        return code


def _warm_ends(subject: Subject, mutants: Sequence[Mutant]) -> dict[int, int]:
    """How those mutants ended, by their numbers, that the warm way can tell of."""
    received, sent = os.pipe()

    def work() -> int:
        judge = _Judge(subject, mutants, sent)
        importlib.import_module(subject.module)
        return int(pytest.main([*OPTIONS, *subject.tests], plugins=[judge]))

    code = _forked(work, limited=False)
    os.close(sent)
    with os.fdopen(received) as told:
        ends = dict(map(int, line.split()) for line in told)
    if code != SURVIVED:
        raise RuntimeError(f"the tests of {subject.name} cannot be collected")
    return ends


def _functions(holder: Any, prefix: str = "") -> Iterator[tuple[str, FunctionType]]:
    """The functions and methods of a module or a class, by their qualified names."""
    module = getattr(holder, "__module__", None) or holder.__name__
    for name, value in vars(holder).items():
        path = f"{prefix}{name}"
        if isinstance(value, type) and (value.__module__, value.__qualname__) == (module, path):
            yield from _functions(value, f"{path}.")
        inner: Any = value
        for wrapping in ("fget", "__func__", "__wrapped__"):  # property, classmethod, cache
            inner = getattr(inner, wrapping, inner)
        if isinstance(inner, FunctionType) and inner.__module__ == module:
            yield path, inner


def _swapped(function: FunctionType, mutant: Mutant) -> bool:
    """Give the mutant's function its changed code; whether that changes anything."""
    before = function.__code__
    module = compile(mutant.source(), before.co_filename, "exec", dont_inherit=True)
    after = next((c for c in _codes(module) if c.co_qualname == mutant.function), None)
    if after is None or after == before or after.co_freevars != before.co_freevars:
        return False
    function.__code__ = after
    return True


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)
