"""What is changed; the rule: mutmut's operators, wherever the source decides anything.

mutmut itself changes plain functions only. Here the decisions also stand in tables, defaults and
properties, so its operators are applied to the whole module. Left alone are annotations and
decorators, as mutmut does, and prose: a test that pins a message word by word proves nothing.
"""

from __future__ import annotations

import difflib
import re

import attrs
import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

_PROSE = re.compile(r"[a-z,.;:')] [a-zA-Z(']")
"""A space between words; a regular expression or a name on the wire has none."""
_COMMENT = re.compile(r"  # .*")
_NEVER_CHANGED = frozenset({"len", "isinstance"})
"""Functions that only raise when an argument is taken away; mutmut leaves them alone as well."""


@attrs.frozen(kw_only=True, eq=False)
class Mutant:
    """One change of one place.

    Attributes:
        function: The qualified name of the function that it is in; `None`: in none.
        line: Where it begins, from 1.
    """

    function: str | None
    line: int
    _module: cst.Module
    _node: cst.CSTNode
    _changed: cst.CSTNode

    def source(self) -> str:
        """The whole module with this change."""
        changed = self._module.deep_replace(self._node, self._changed)
        assert isinstance(changed, cst.Module)
        return changed.code

    def change(self) -> tuple[str, str, str]:
        """Where, and the lines that differ, before and after, without indentation and comments."""
        lines = list(difflib.ndiff(self._module.code.splitlines(), self.source().splitlines()))
        before, after = (
            " ".join(_COMMENT.sub("", line[2:]).strip() for line in lines if line.startswith(sign))
            for sign in "-+"
        )
        return self.function or "", before, after


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    finder = _Finder()
    wrapper.visit(finder)
    return [
        Mutant(function=function, line=line, module=wrapper.module, node=node, changed=changed)
        for function, line, node, changed in finder.found
    ]


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str | None, int, cst.CSTNode, cst.CSTNode]] = []
        self._scopes: list[cst.ClassDef | cst.FunctionDef] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _is_left_alone(node):
            return False
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._scopes.append(node)
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                line = self.get_metadata(PositionProvider, node).start.line
                self.found += [(self._function(), line, node, new) for new in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._scopes and self._scopes[-1] is original_node:
            self._scopes.pop()

    def _function(self) -> str | None:
        """The outermost function that is being visited, with the classes around it."""
        names: list[str] = []
        for scope in self._scopes:
            names.append(scope.name.value)
            if isinstance(scope, cst.FunctionDef):
                return ".".join(names)
        return None


def _is_left_alone(node: cst.CSTNode) -> bool:
    match node:
        case (
            cst.Annotation()
            | cst.Decorator()
            # Type checkers judge these.
            | cst.AnnAssign(annotation=cst.Annotation(annotation=cst.Name(value="TypeAlias")))
            | cst.Assign(value=cst.Call(func=cst.Name(value="TypeVar")))
            # Nothing runs it; tests/test_house.py compares it with the names.
            | cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value="__all__"))])
            # Infinity; `float` reads it in any case.
            | cst.Call(func=cst.Name(value="float"), args=[cst.Arg(value=cst.SimpleString())])
        ):
            return True
        case cst.Call(func=cst.Name(value=name)):
            return name in _NEVER_CHANGED
        case cst.SimpleString(prefix=prefix, raw_value=text):
            return "r" not in prefix.lower() and _PROSE.search(text) is not None
        case _:
            return False
