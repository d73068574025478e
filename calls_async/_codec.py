"""JSON to `Call` and back; the rule: strict, total, and nothing is coerced or silently dropped.

This is the only door to cattrs and orjson. The contract itself stands in `models`; this module says
how its types look in JSON.

Reading:
- A value has the type that `models` names, or it is a violation: `1` is no boolean and `True` no
  number. Every violation is collected, with its path on the wire. The value itself is never quoted:
  a server may echo the key in it.
- A time is an RFC 3339 string with `Z` or an offset. A fraction of more than six digits is cut
  after the microsecond, which is all that a `datetime` holds: to refuse it would lose the call, and
  `raw` keeps the digits. A leap second, which no `datetime` can be, is a violation.
- A byte order mark is skipped, as RFC 8259 (section 8.1) allows. Of duplicate members the last
  wins. A whole number beyond 64 bits in an unknown member becomes a float.

Writing (the normal form): an optional member that is `None` is absent, a required one is null; an
object without members is null; a time has milliseconds and `Z`, microseconds or an offset where the
value has them; unknown members follow the documented ones.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from datetime import UTC, datetime
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeGuard, get_args

import attrs
import orjson
from cattrs import ClassValidationError, Converter
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from calls_async._quick import Hooks, reader_of
from calls_async.errors import DecodeError, Violation
from calls_async.models import NO_EXTRA, Call, CallType, Extra, as_instant, copied, wire_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["decode_call", "structure_call", "unstructure_call"]


class _RefusedError(Exception):
    """A value that the contract does not allow; the text says why."""


# The quick pass stops at the first violation, and the slow one collects them all. What orjson
# raises is a `ValueError` as well.
_UNUSUAL: Final = (_RefusedError, KeyError, ValueError)


# --- The public face -----------------------------------------------------------------------------


def decode_call(body: bytes) -> Call:
    """The call in a body of UTF-8 JSON.

    Raises:
        DecodeError: The body is no JSON document (`document_readable` is false), is one that cannot
            be held (a lone surrogate, a number beyond a double, nesting beyond 1,024 levels), or
            breaks the contract. `raw` is the body.
    """
    try:
        return _structure(orjson.loads(body.removeprefix(BOM_UTF8)), Call)
    except _UNUSUAL:
        pass
    return _explained(_parsed(body), raw=body)


def structure_call(document: object) -> Call:
    """The call in a document that is already parsed: what `json.loads` gives.

    Raises:
        DecodeError: The document breaks the contract; `violations` names every place.
    """
    # Copied, for a call keeps what it does not know, and the document is the caller's.
    document = copied(document)
    try:
        return _structure(document, Call)
    except _UNUSUAL:
        pass
    return _explained(document, raw=b"")


def unstructure_call(call: Call) -> dict[str, Any]:
    """The document of a call, in the normal form; it shares nothing with the call."""
    return _unstructure(call)


# --- JSON ----------------------------------------------------------------------------------------


def _parsed(body: bytes) -> object:
    text = body.removeprefix(BOM_UTF8)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        problem = str(error)
    # Raised out here, so that orjson's error is not chained: it holds the whole text, in which a
    # server may have echoed the key.
    readable = _is_json(text)
    kind = "JSON that cannot be held" if readable else "no JSON document"
    raise DecodeError(f"The body is {kind}: {problem}", raw=body, document_readable=readable)


def _is_json(text: bytes) -> bool:
    """Whether a text that orjson refused is legal JSON nevertheless."""
    try:
        # `parse_int=str`: int() refuses thousands of digits, which are legal.
        json.loads(text.decode(), parse_int=str, parse_constant=_refuse_constant)
    except RecursionError:
        # So deep that nobody can tell. Asking again would bring the same, so it is not "cut".
        return True
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    # The standard library reads NaN and Infinity, which are not JSON.
    raise ValueError(name)


# --- Documents -----------------------------------------------------------------------------------


def _explained(document: object, *, raw: bytes) -> Call:
    violations: list[Violation] = []
    try:
        return _explain(document, Call)
    except (_RefusedError, ClassValidationError) as error:
        violations.extend(_violations(error, "$"))
    # Raised out here as well: what cattrs chains is told by the violations.
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    raise DecodeError(
        f"The record breaks the contract: {violations[0]}{more}",
        call_id=_id_of(document),
        violations=tuple(violations),
        raw=raw,
    )


def _violations(error: BaseException, path: str) -> Iterator[Violation]:
    if isinstance(error, ClassValidationError):
        names = wire_names(error.cl)
        for member_error, note in error.group_exceptions()[0]:
            yield from _violations(member_error, f"{path}.{names[note.name]}")
    elif isinstance(error, KeyError):
        yield Violation(path=path, problem="is required, but missing")
    else:
        yield Violation(path=path, problem=str(error))


def _id_of(document: object) -> str | None:
    call_id = document.get("id") if _is_object(document) else None
    return call_id if isinstance(call_id, str) else None


# --- Values --------------------------------------------------------------------------------------

_KINDS: Final[dict[type, str]] = {
    NoneType: "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def _wrong(expected: str, value: object) -> _RefusedError:
    kind = _KINDS.get(type(value), type(value).__name__)
    return _RefusedError(f"must be {expected}, not {kind}")


def _is_object(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _read_string(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _wrong("a string", value)
    return value


def _read_boolean(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong("a boolean", value)
    return value


# `datetime.fromisoformat` reads far more than RFC 3339 (week dates, no colons, no offset, from
# Python 3.13 on also 24:00), so the shape is checked first. The ranges are left to it, except for
# the minutes of an offset, which it does not check.
_RFC_3339: Final = re.compile(
    r"\d\d\d\d-\d\d-\d\d[Tt](?!24)\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:[0-5]\d)", re.ASCII
)


def _read_time(value: object, _: object) -> datetime:
    if not isinstance(value, str):
        raise _wrong("a time", value)
    if _RFC_3339.fullmatch(value) is None:
        raise _RefusedError("must be a time as in RFC 3339, with Z or an offset")
    try:
        time = datetime.fromisoformat(value if value[-1] != "z" else value.upper())
        return time if time.tzinfo is UTC else as_instant(time)
    except ValueError:
        raise _RefusedError(
            "must be a time that exists, without leap second, in the years 1 to 9999 of UTC"
        ) from None


def _write_time(value: datetime) -> str:
    digits = "microseconds" if value.microsecond % 1000 else "milliseconds"
    return value.isoformat(timespec=digits).replace("+00:00", "Z")


def _write_call_type(value: str) -> str:
    return str(value)  # A member becomes the plain string that JSON has.


# --- The converter -------------------------------------------------------------------------------


def configure_converter(converter: Converter) -> None:
    """Teach `converter` the wire: strict values, camel case, unknown members, null objects."""
    converter.register_structure_hook(str, _read_string)
    converter.register_structure_hook(bool, _read_boolean)
    converter.register_structure_hook(datetime, _read_time)
    converter.register_structure_hook(CallType | str, _read_string)
    converter.register_structure_hook_factory(_is_optional, _optional_reader)
    converter.register_structure_hook_factory(attrs.has, _object_reader)

    for kind in (str | None, bool | None):
        converter.register_unstructure_hook(kind, identity)  # which costs no call
    converter.register_unstructure_hook(datetime, _write_time)
    converter.register_unstructure_hook(CallType | str, _write_call_type)
    converter.register_unstructure_hook_factory(attrs.has, _object_writer)


def make_converter(*, detailed_validation: bool) -> Converter:
    """A converter for calls; with `detailed_validation` it is slow and collects every violation."""
    converter = Converter(detailed_validation=detailed_validation)
    configure_converter(converter)
    return converter


def _is_optional(kind: Any) -> bool:
    return NoneType in get_args(kind)


def _optional_reader(kind: Any, converter: Converter) -> Callable[[object, Any], Any]:
    # cattrs' own hook looks the inner hook up again for each value.
    (inner,) = (arg for arg in get_args(kind) if arg is not NoneType)
    read = converter.get_structure_hook(inner)

    def read_optional(value: object, _: object) -> Any:
        return None if value is None else read(value, inner)

    return read_optional


def _overrides(cls: type[attrs.AttrsInstance]) -> dict[str, Any]:
    renames = {name: override(rename=wire_name) for name, wire_name in wire_names(cls).items()}
    return {**renames, "extra": override(omit=True)}


@cache
def _empty(cls: type[attrs.AttrsInstance]) -> attrs.AttrsInstance | None:
    """What null is read as: one shared instance, or `None` where a required member forbids null."""
    required = any(field.default is attrs.NOTHING for field in attrs.fields(cls))
    return None if required else cls()


def _object_reader(
    cls: type[attrs.AttrsInstance], converter: Converter
) -> Callable[[object, Any], Any]:
    read: Callable[[dict[Any, Any], Any], Any] = make_dict_structure_fn(
        cls, converter, **_overrides(cls)
    )
    known = frozenset(wire_names(cls).values())
    empty = _empty(cls)

    def read_object(value: object, _: object) -> Any:
        if not _is_object(value):
            if value is None and empty is not None:
                return empty
            raise _wrong("an object", value)
        record, extra = read(value, cls), _unknown(value, known)
        return attrs.evolve(record, extra=extra) if extra else record

    if converter.detailed_validation:
        return read_object
    hooks = Hooks(
        hook_of=converter.get_structure_hook, as_is=_AS_IS, unknown=_unknown, as_parsed=_as_parsed
    )
    return reader_of(cls, read_object, hooks)


_AS_IS: Final[dict[Any, type]] = {str: str, bool: bool, CallType | str: str}
"""For a type, the class whose very instances its hook gives back as they are."""


def _unknown(value: dict[Any, Any], known: frozenset[str]) -> Extra:
    extra = {name: value[name] for name in value if name not in known}
    if not extra:
        return NO_EXTRA
    if not all(isinstance(name, str) for name in extra):
        raise _RefusedError("must have only strings as names")
    return Extra.over(extra)


def _as_parsed(names: Iterable[str]) -> list[str]:
    return list(orjson.loads(orjson.dumps(dict.fromkeys(names))))


def _object_writer(
    cls: type[attrs.AttrsInstance], converter: Converter
) -> Callable[[Any], dict[str, Any] | None]:
    overrides = _overrides(cls)
    write = make_dict_unstructure_fn(cls, converter, _cattrs_omit_if_default=True, **overrides)

    def write_object(value: Any) -> dict[str, Any] | None:
        members = write(value)
        if value.extra:
            members.update(value.extra)
        return members or None

    return write_object


_converter: Final = make_converter(detailed_validation=False)
_structure: Final[Callable[[object, type[Call]], Call]] = _converter.get_structure_hook(Call)
_unstructure: Final[Callable[[Call], dict[str, Any]]] = _converter.get_unstructure_hook(Call)
_explain: Final[Callable[[object, type[Call]], Call]] = make_converter(
    detailed_validation=True
).get_structure_hook(Call)
