"""Reading the ordinary document in straight lines; the rule: what is unusual is the hook's to read.

`reader_of` writes the code that reads a class, from the class's own fields, and compiles it once.
The code takes a value as it is where that is plainly right: a string where a string belongs, a time
in the form that the page shows. Any other value, and any other kind of object, it hands to the hook
that reads it otherwise (cattrs' hook, in the codec). So one place says what a value means. An inner
object of nothing but strings and flags is read in the lines of the outer one, as long as all of it
is ordinary, and by its hook otherwise. A reader gives what the hook of its class gives. Where that
refuses, it raises what a hook raised, `KeyError` or `ValueError`, at the first thing that is wrong:
who wants to know all of it asks the hook.
"""

from __future__ import annotations

import linecache
from datetime import datetime
from types import FunctionType, NoneType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args, get_type_hints
from weakref import WeakKeyDictionary

import attrs

from calls_async._unfrozen import unfrozen
from calls_async.models import wire_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from calls_async.models import Extra

Hook: TypeAlias = "Callable[[object, Any], Any]"
"""Reads a value of a type and is called with both, as cattrs does."""


@attrs.frozen(kw_only=True)
class Hooks:
    """What a reader leaves to others.

    Attributes:
        hook_of: The hook that reads the values of a type.
        as_is: For a type, the class whose very instances its hook gives back as they are.
        unknown: What a document has besides the documented names.
        as_parsed: The strings that the JSON parser makes of these names. orjson keeps the names
            that it met and gives the same string again, and a dict is quicker with a key that is
            the very string than with one that is equal.
    """

    hook_of: Callable[[Any], Hook]
    as_is: Mapping[Any, type]
    unknown: Callable[[dict[Any, Any], frozenset[str]], Extra]
    as_parsed: Callable[[Iterable[str]], list[str]]


def reader_of(cls: type[attrs.AttrsInstance], law: Hook, hooks: Hooks) -> Hook:
    """A hook that reads what `law` reads.

    It is `law` itself where to make an instance is more than to set its attributes.

    Args:
        cls: A class of records. Unknown members go to its attribute `extra`.
        law: The hook of `cls` for all that is unusual.
        hooks: The hooks of its members.
    """
    if not _is_plain(cls):
        return law
    plain = _Plain(cls=cls, members=_members_of(cls, hooks))
    room: dict[str, Any] = {
        "law": law,
        "known": frozenset(member.key for member in plain.members),
        "unknown": hooks.unknown,
        "are_usual": are_usual,
        "usual_times": usual_times(sum(member.is_time for member in plain.members)),
        "a_time": A_TIME,
        "fromisoformat": datetime.fromisoformat,
    }
    _furnish(room, plain, "")
    for number, member in enumerate(plain.members):
        room[f"type_{member.name}"] = member.type
        room[f"hook_{member.name}"] = member.hook
        room[f"convert_{member.name}"] = member.convert
        room[f"default_{member.name}"] = member.default
        if member.inner:
            _furnish(room, member.inner, str(number))
    source = "\n".join(_lines(plain.members)) + "\n"
    name = f"<reader of {cls.__module__}.{cls.__qualname__}>"
    # For tracebacks and debuggers, as attrs does for the methods that it writes.
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), room)  # noqa: S102 (nothing in it comes from outside)
    read: Hook = room["read"]
    _written[read] = plain
    return read


def _furnish(room: dict[str, Any], plain: _Plain, at: str) -> None:
    """Put into the room what it takes to read an object of this class, with `at` in the names."""
    room[f"cls{at}"] = plain.cls
    room[f"unfrozen{at}"] = unfrozen(plain.cls)
    room[f"no_extra{at}"] = attrs.fields_dict(plain.cls)["extra"].default
    for member in plain.members:
        room[f"key{at}_{member.name}"] = member.key


# --- Times ---------------------------------------------------------------------------------------

A_TIME: Final = "2000-01-01T00:00:00.000Z"
"""A time in the usual form."""
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")


def usual_times(count: int) -> bytes:
    """What so many times in the usual form look like, for `are_usual`."""
    return "|".join([A_TIME] * count).encode().translate(_DIGITS)


def are_usual(times: tuple[Any, ...], usual: bytes) -> bool:
    """Whether each value is a string in the form of `A_TIME`, with ASCII digits.

    All times of a record are judged at once, which costs hardly more than to judge one. A value
    cannot pass as half a time that its neighbour completes, for then the text would have a bar too
    many. `datetime.fromisoformat` is left to say which days and hours exist. Hour 24, which it
    takes from Python 3.13 on, is not usual.

    Args:
        times: The values.
        usual: `usual_times` of as many.
    """
    try:
        text = "|".join(times)
        return text.encode().translate(_DIGITS) == usual and "T24" not in text
    except (TypeError, UnicodeEncodeError):
        return False


# --- Instances -----------------------------------------------------------------------------------


def _is_plain(cls: type[Any]) -> bool:
    return not (
        cls.__dictoffset__
        or hasattr(cls, "__attrs_pre_init__")
        or hasattr(cls, "__attrs_post_init__")
        or any(_is_involved(field) for field in attrs.fields(cls))
    )


def _is_involved(field: Any) -> bool:
    """Whether an attribute needs more than its value.

    The converter of `extra` may take the record: what it does, `Hooks.unknown` has done.
    """
    factory: Any = attrs.Factory  # a class, though its stub shows a function
    return (
        not field.init
        or field.validator is not None
        or isinstance(field.default, factory)
        or (isinstance(field.converter, attrs.Converter) and field.name != "extra")
    )


# --- Members -------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Plain:
    """A class whose instances are made by setting their attributes."""

    cls: type[attrs.AttrsInstance]
    members: list[_Member]

    def is_flat(self) -> bool:
        """Whether it has strings and flags, and nothing else."""
        return bool(self.members) and all(
            member.exact and member.convert is None for member in self.members
        )


_written: Final[WeakKeyDictionary[Hook, _Plain]] = WeakKeyDictionary()
"""By each reader that was written here what it reads, so that another one can read it as well."""


@attrs.frozen(kw_only=True)
class _Member:
    name: str
    key: str
    type: Any
    hook: Hook
    exact: str | None
    nullable: bool
    is_time: bool
    convert: Callable[[Any], Any] | None
    required: bool
    default: Any
    inner: _Plain | None


def _members_of(cls: type[attrs.AttrsInstance], hooks: Hooks) -> list[_Member]:
    names = wire_names(cls)
    keys = dict(zip(names, hooks.as_parsed(names.values()), strict=True))
    types = get_type_hints(cls)
    return [
        _member(field, keys[field.name], types[field.name], hooks)
        for field in attrs.fields(cls)
        if field.name in names
    ]


def _member(field: Any, key: str, kind: Any, hooks: Hooks) -> _Member:
    inner = _without_none(kind)
    is_time = inner is datetime
    hook = hooks.hook_of(kind)
    written = _written.get(hook) if isinstance(hook, FunctionType) else None
    return _Member(
        name=field.name,
        key=key,
        type=kind,
        hook=hook,
        exact=hooks.as_is[inner].__name__ if inner in hooks.as_is else None,
        nullable=inner is not kind,
        is_time=is_time,
        # What a time's converter makes, in UTC or with a fixed offset, is what its hook gives.
        convert=None if is_time else field.converter,
        required=field.default is attrs.NOTHING,
        default=field.default,
        inner=written if written and written.is_flat() else None,
    )


def _without_none(kind: Any) -> Any:
    args = [arg for arg in get_args(kind) if arg is not NoneType]
    return args[0] if len(args) == 1 and NoneType in get_args(kind) else kind


# --- The code ------------------------------------------------------------------------------------

# A member's value is `name_`, and that of a member of an inner object `name_in`, so that neither
# can be taken for the other or for a name that stands in the lines themselves.


def _lines(members: list[_Member]) -> Iterator[str]:
    yield "def read(document, kind):"
    yield "    if type(document) is not dict:"
    yield "        return law(document, kind)"
    yield "    try:"
    for member in members:
        yield f"        {member.name}_ = document[key_{member.name}]"
    yield f"        is_all = len(document) == {len(members)}"
    yield "        extra = no_extra if is_all else unknown(document, known)"
    yield "    except KeyError:"
    for member in members:
        key, default = f"key_{member.name}", f"default_{member.name}"
        found = f"document[{key}]" if member.required else f"document.get({key}, {default})"
        yield f"        {member.name}_ = {found}"
    yield "        extra = unknown(document, known)"
    # What is often needed is quicker as a local than as a global.
    yield "    class_of, text, instant = type, str, fromisoformat"
    for number, member in enumerate(members):
        if member.inner:
            yield from _object(member, member.inner.members, number)
        elif not member.is_time:
            yield from _value(member)
    if times := [member for member in members if member.is_time]:
        yield from _times(times)
    yield "    record = unfrozen()"
    for member in members:
        yield f"    record.{member.name} = {member.name}_"
    yield "    record.extra = extra"
    yield "    record.__class__ = cls"
    yield "    return record"


def _value(member: _Member) -> Iterator[str]:
    value = f"{member.name}_"
    if member.exact:
        yield f"    if not ({_is_exact(member, value)}):"
        yield f"        {_hooked(member)}"
    else:
        yield f"    {_hooked(member)}"
    yield from _converted(member)


def _object(member: _Member, inner: list[_Member], number: int) -> Iterator[str]:
    value = f"{member.name}_"
    yield f"    given = {value}"
    yield f"    if class_of(given) is dict and len(given) == {len(inner)}:"
    yield "        try:"
    for each in inner:
        yield f"            {each.name}_in = given[key{number}_{each.name}]"
    yield "        except KeyError:"
    yield "            pass"
    yield "        else:"
    yield "            if ("
    for each in inner:
        also = "and " if each is not inner[0] else ""
        yield f"                {also}({_is_exact(each, each.name + '_in')})"
    yield "            ):"
    yield f"                {value} = unfrozen{number}()"
    for each in inner:
        yield f"                {value}.{each.name} = {each.name}_in"
    yield f"                {value}.extra = no_extra{number}"
    yield f"                {value}.__class__ = cls{number}"
    yield f"    if {value} is given:"
    yield f"        {_hooked(member)}"
    yield from _converted(member)


def _converted(member: _Member) -> Iterator[str]:
    if member.convert:
        yield f"    {member.name}_ = convert_{member.name}({member.name}_)"


def _is_exact(member: _Member, value: str) -> str:
    exact = "text" if member.exact == "str" else member.exact
    or_null = f" or {value} is None" if member.nullable else ""
    return f"class_of({value}) is {exact}{or_null}"


def _times(times: list[_Member]) -> Iterator[str]:
    yield "    if are_usual(("
    for member in times:
        value = f"{member.name}_"
        yield (
            f"        {value} if {value} is not None else a_time,"
            if member.nullable
            else (f"        {value},")
        )
    yield "    ), usual_times):"
    for member in times:
        value = f"{member.name}_"
        if member.nullable:
            yield f"        if {value} is not None:"
            yield f"            {value} = instant({value})"
        else:
            yield f"        {value} = instant({value})"
    yield "    else:"
    for member in times:
        yield f"        {_hooked(member)}"


def _hooked(member: _Member) -> str:
    name = member.name
    return f"{name}_ = hook_{name}({name}_, type_{name})"
