"""The contract of a record, told once more; the rule: no code of the package's is asked.

It does not look into the text of a time: the values sweep does.
"""

from __future__ import annotations

from typing import Any, Final

from tests.documents import MEMBERS

_TYPES: Final = {"string": str, "boolean": bool, "time": str, "object": dict}


def broken(document: Any) -> set[str]:
    """The wire paths at which a parsed document is missing something or has another type."""
    if not isinstance(document, dict):
        return {"$"}
    paths = set()
    for member in MEMBERS:
        *parents, name = member.path
        holder = document
        for parent in parents:
            holder = holder.get(parent)
        if not isinstance(holder, dict):
            continue  # told of the parent, where it is wrong
        value = holder.get(name)
        if value is None:
            right = member.nullable if name in holder else not member.required
        else:
            right = isinstance(value, _TYPES[member.kind])
        if not right:
            paths.add(member.wire_path)
    return paths
