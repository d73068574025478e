"""The quick pass, place by place; that it gives what the hooks give is in `tests/property`."""

from __future__ import annotations

import copy
import linecache
import pickle
import weakref
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import attrs
import pytest

from calls_async._codec import decode_call
from calls_async._quick import A_TIME, Hooks, are_usual, reader_of, usual_times
from calls_async.models import Call, Caller, CallType, Contact, PhoneNumber, wire_names
from tests.documents import EXAMPLE_BODY, NO_TIMES, example

TEXT = "2024-03-20T09:00:00.000Z"
NOTHING = MappingProxyType({})
TIME = datetime(2024, 3, 20, 9, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Record:
    """A record as the models are, and in the test's hands."""

    first_name: str
    age: int = 0
    flag: bool | None = None
    seen: datetime | None = None
    made: datetime
    extra: Any = NOTHING


class Odd(str):
    """A string that is not quite one."""

    __slots__ = ()


def record(**members: Any) -> dict[str, Any]:
    """A document of a `Record`, with all its members unless one is taken out."""
    return {"firstName": "A", "age": 1, "flag": True, "seen": None, "made": TEXT} | members


class Hooked:
    """Hooks that keep what they were asked, and give it back marked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.law: list[Any] = []
        self.hooks = Hooks(
            hook_of=lambda _: self._hook,
            as_is={str: str, bool: bool},
            unknown=lambda document, known: {
                name: value for name, value in document.items() if name not in known
            },
            as_parsed=list,
        )

    def _hook(self, value: object, kind: Any) -> Any:
        self.asked.append((value, kind))
        return "read", value

    def read(self, value: object, kind: Any) -> Any:
        """The law of the class under test."""
        self.law.append((value, kind))
        return "law"


@pytest.fixture
def hooked() -> Hooked:
    return Hooked()


# --- What is usual, and what is handed on --------------------------------------------------------


def test_a_usual_value_is_taken_as_it_is(hooked):
    """No hook is asked about plain strings, booleans and times; of other types, always."""
    read = reader_of(Record, hooked.read, hooked.hooks)
    document = record(age=7, seen=TEXT)
    got = read(document, Record)
    assert hooked.asked == [(7, int)]
    assert (got.first_name, got.flag, got.seen, got.made) == ("A", True, TIME, TIME)
    assert got.age == ("read", 7)
    assert got.extra is NOTHING
    assert not hooked.law


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("firstName", Odd("A"), str),
        ("firstName", None, str),
        ("firstName", 1, str),
        ("flag", 1, bool | None),
        ("flag", "no", bool | None),
    ],
)
def test_an_unusual_value_is_its_hooks_to_read(hooked, name, value, kind):
    """Whatever is not of the exact type is handed to the hook of the member, with its type."""
    got = reader_of(Record, hooked.read, hooked.hooks)(record(**{name: value}), Record)
    assert (value, kind) in hooked.asked
    assert len(hooked.asked) == 2  # the other is the number
    assert ("read", value) in (got.first_name, got.flag)


@pytest.mark.parametrize("other", [None, 1, TEXT[:-1], TEXT + "Z", "2024-03-20T24:00:00.000Z"])
def test_one_unusual_time_hands_all_times_to_their_hooks(hooked, other):
    """Times are judged together: either all are in the usual form or all are left to the hooks."""
    got = reader_of(Record, hooked.read, hooked.hooks)(record(made=other, seen=TEXT), Record)
    assert hooked.asked[1:] == [(TEXT, datetime | None), (other, datetime)]
    assert (got.seen, got.made) == (("read", TEXT), ("read", other))


def test_a_usual_time_that_does_not_exist_is_refused(hooked):
    """A month 13 has the form, and no datetime."""
    with pytest.raises(ValueError, match="month must be in 1"):
        reader_of(Record, hooked.read, hooked.hooks)(record(made="2024-13-20T09:00:00.000Z"), 0)


def test_null_of_a_member_that_may_be_null_is_none(hooked):
    """Neither a flag nor a time that is null is anybody's to read."""
    got = reader_of(Record, hooked.read, hooked.hooks)(record(flag=None), Record)
    assert (got.flag, got.seen) == (None, None)
    assert hooked.asked == [(1, int)]


def test_an_absent_member_has_its_default(hooked):
    """A default is read like any value: of a type without an exact class, by its hook."""
    got = reader_of(Record, hooked.read, hooked.hooks)({"firstName": "A", "made": TEXT}, Record)
    assert (got.flag, got.seen, got.age) == (None, None, ("read", 0))
    assert got.extra == {}


def test_a_missing_required_member_is_refused(hooked):
    """Also where an unknown member makes up for it in number."""
    read = reader_of(Record, hooked.read, hooked.hooks)
    document = record()
    del document["made"]
    for more in ({}, {"new": 1}):
        with pytest.raises(KeyError):
            read(document | more, Record)


def test_unknown_members_are_kept(hooked):
    """Beside all documented members, and in the place of an absent one."""
    read = reader_of(Record, hooked.read, hooked.hooks)
    document = record(new=[1])
    assert read(document, Record).extra == {"new": [1]}
    del document["flag"]
    got = read(document, Record)
    assert got.extra == {"new": [1]}
    assert got.flag is None


@pytest.mark.parametrize("document", [None, [], "A", type("Dict", (dict,), {})(record())])
def test_what_is_no_plain_dict_is_the_law_to_read(hooked, document):
    """Null, anything else that is no object, and a dict of somebody else's making."""
    assert reader_of(Record, hooked.read, hooked.hooks)(document, Record) == "law"
    assert hooked.law == [(document, Record)]


# --- Any class -----------------------------------------------------------------------------------


def test_a_type_that_is_made_of_others_is_its_hooks_to_read(hooked):
    """A list of strings is no string, and where there is a choice of types the hook chooses."""

    @attrs.frozen
    class Made:
        words: list[str]
        either: str | int | None
        extra: Any = NOTHING

    reader_of(Made, hooked.read, hooked.hooks)({"words": "a", "either": "b"}, None)
    assert hooked.asked == [("a", list[str]), ("b", str | int | None)]


def test_each_name_must_come_back_from_the_parser(hooked):
    """Names that it lost would leave members unread."""
    hooks = attrs.evolve(hooked.hooks, as_parsed=lambda names: list(names)[1:])
    with pytest.raises(ValueError, match="shorter"):
        reader_of(Record, hooked.read, hooks)


def test_a_converter_is_applied(hooked):
    """What a class makes of a value when it is constructed, it makes of one that is read."""

    @attrs.frozen
    class Shouted:
        word: str = attrs.field(converter=str.upper)
        extra: Any = NOTHING

    assert reader_of(Shouted, hooked.read, hooked.hooks)({"word": "a"}, None) == Shouted("a")


def test_a_subclass_with_more_members_is_read_whole(hooked):
    """All is derived from the fields that a class has: a new one is read and set."""

    @attrs.frozen
    class More(Caller):
        nick_name: str | None = None

    got = reader_of(More, hooked.read, hooked.hooks)({"firstName": "A", "nickName": "B"}, More)
    assert type(got) is More
    assert got == More(first_name="A", nick_name="B", extra={})


# --- Objects in objects --------------------------------------------------------------------------


@attrs.frozen
class Inner:
    """An object of strings and flags."""

    id: str
    nick_name: str | None = None
    flag: bool | None = None
    extra: Any = NOTHING


def reader_with(hooked, inner, **field):
    """A reader of a class with an inner object, and a list of what was left to the inner's hook."""
    left = []
    own = reader_of(inner, hooked.read, hooked.hooks)

    def hook(value, kind):
        left.append((value, kind))
        return own(value, kind)

    members = {
        "given": attrs.field(type=str),
        "inner": attrs.field(type=inner, **field),
        "extra": attrs.field(type=Any, default=NOTHING),
    }
    outer = attrs.make_class("Outer", members, slots=True, frozen=True)
    hooks = attrs.evolve(
        hooked.hooks, hook_of=lambda kind: own if kind is inner else hooked.hooks.hook_of(kind)
    )
    read = reader_of(outer, hooked.read, hooks)
    # What it would call, as the room of its code has it.
    read.__globals__["hook_inner"] = hook
    return read, left


@pytest.mark.parametrize(
    "values", [("A", "B", True), ("A", None, None), ("", "", False)], ids=lambda values: values[0]
)
def test_an_ordinary_inner_object_is_read_in_the_same_lines(hooked, values):
    """Neither its hook nor that of its class is asked, and it is what they would have made."""
    read, left = reader_with(hooked, Inner)
    document = dict(zip(("id", "nickName", "flag"), values, strict=True))
    got = read({"given": "C", "inner": document}, None)
    assert (got.given, got.inner) == ("C", Inner(*values))
    assert type(got.inner) is Inner
    assert got.inner.extra is NOTHING
    assert not left
    assert not hooked.law
    assert not hooked.asked


@pytest.mark.parametrize(
    "document",
    [
        None,
        "A",
        [],
        type("Dict", (dict,), {})({"id": "A", "nickName": "B", "flag": True}),
        {"id": "A"},
        {"id": "A", "nickName": "B", "flag": True, "new": 1},
        {"id": "A", "nickName": "B", "new": 1},
        {"id": None, "nickName": "B", "flag": True},
        {"id": "A", "nickName": Odd("B"), "flag": True},
        {"id": "A", "nickName": "B", "flag": 1},
    ],
    ids=repr,
)
def test_an_unusual_inner_object_is_its_hooks_to_read(hooked, document):
    """No object, or one with other members or other values: its hook reads it, as it is."""
    read, left = reader_with(hooked, Inner)
    own = reader_of(Inner, hooked.read, hooked.hooks)
    got = read({"given": "C", "inner": document}, None)
    assert left == [(document, Inner)]
    assert left[0][0] is document
    assert got.inner == own(document, Inner)


def test_an_inner_object_without_a_required_member_is_refused(hooked):
    """As its own reader refuses it."""
    read, left = reader_with(hooked, Inner)
    with pytest.raises(KeyError):
        read({"given": "C", "inner": {"nickName": "B", "flag": True, "new": 1}}, None)
    assert len(left) == 1


def test_what_is_made_of_an_inner_object_is_made_of_one_read_in_the_same_lines(hooked):
    """The converter of the outer member gets it, whoever has read it."""
    read, left = reader_with(hooked, Inner, converter=lambda inner: ("made of", inner))
    ordinary = {"id": "A", "nickName": "B", "flag": True}
    got = read({"given": "C", "inner": ordinary}, None)
    assert got.inner == ("made of", Inner(id="A", nick_name="B", flag=True))
    assert not left
    assert read({"given": "C", "inner": None}, None).inner == ("made of", "law")


def inner_classes():
    """Classes that are more than strings and flags, each with a document of it."""

    @attrs.frozen
    class Shouted:
        word: str = attrs.field(converter=str.upper)
        extra: Any = NOTHING

    @attrs.frozen
    class Timed:
        word: datetime
        extra: Any = NOTHING

    @attrs.frozen
    class Numbered:
        word: int
        extra: Any = NOTHING

    @attrs.frozen
    class Bare:
        extra: Any = NOTHING

    @attrs.frozen
    class Checked:
        word: str = attrs.field(validator=attrs.validators.min_len(1))

    documents = [{"word": "a"}, {"word": TEXT}, {"word": 1}, {}, {"word": "a"}]
    return list(zip((Shouted, Timed, Numbered, Bare, Checked), documents, strict=True))


@pytest.mark.parametrize(("cls", "document"), inner_classes(), ids=lambda each: str(each)[-20:])
def test_an_inner_object_of_more_than_strings_is_its_hooks_to_read(hooked, cls, document):
    """Times, converters and other types are read where the class's own reader has them."""
    read, left = reader_with(hooked, cls)
    read({"given": "C", "inner": document}, None)
    assert left == [(document, cls)]


def test_an_inner_object_that_may_be_null_is_its_hooks_to_read(hooked):
    """The hook is that of the choice, and not the one of the class."""
    read = reader_of(Inner, hooked.read, hooked.hooks)

    @attrs.frozen
    class Outer:
        inner: Inner | None
        extra: Any = NOTHING

    asked = []
    hooks = attrs.evolve(
        hooked.hooks, hook_of=lambda kind: read if kind is Inner else hooked.hooks.hook_of(kind)
    )
    document = {"id": "A", "nickName": "B", "flag": True}
    reader_of(Outer, asked.append, hooks)({"inner": document}, None)
    assert hooked.asked == [(document, Inner | None)]


def test_a_hook_that_is_no_function_is_asked(hooked):
    """Such as one that cannot be referred to weakly."""

    class Asked:
        __slots__ = ()

        def __call__(self, value, _):
            return "asked", value

    @attrs.frozen
    class Outer:
        inner: Inner
        extra: Any = NOTHING

    hooks = attrs.evolve(hooked.hooks, hook_of=lambda _: Asked())
    assert reader_of(Outer, hooked.read, hooks)({"inner": {}}, None).inner == ("asked", {})


@attrs.frozen
class Within:
    """An inner object with names that its outer one has as well."""

    given: str
    id: str
    extra: Any = NOTHING


@attrs.frozen
class Named:
    """A record with names that the lines of its reader use themselves."""

    class_of: str
    document: str
    given: str
    given_in: str
    id: str
    instant: str
    is_all: str
    kind: str
    of: int
    record: str
    text: str
    within: Within
    extra: Any = NOTHING


def test_no_member_is_taken_for_a_name_of_the_code(hooked):
    """Members may have the names that the lines use themselves, and an inner one the outer's."""
    own = reader_of(Within, hooked.read, hooked.hooks)
    hooks = attrs.evolve(
        hooked.hooks, hook_of=lambda kind: own if kind is Within else hooked.hooks.hook_of(kind)
    )
    names = [field.name for field in attrs.fields(Named)][:-2]
    document = {wire_names(Named)[name]: name for name in names}
    document["within"] = {"given": "its given", "id": "its id"}
    got = reader_of(Named, hooked.read, hooks)(document, None)
    assert got.within == Within("its given", "its id")
    assert got.of == ("read", "of")
    assert hooked.asked == [("of", int)]
    assert [getattr(got, name) for name in names if name != "of"] == [
        name for name in names if name != "of"
    ]


# --- Classes that are not read quickly -----------------------------------------------------------


def special_classes():
    """Classes whose making is more than their attributes."""

    @attrs.frozen
    class Validated:
        a: str = attrs.field(validator=attrs.validators.min_len(1))

    @attrs.frozen
    class Made:
        a: list[str] = attrs.field(factory=list)

    @attrs.frozen
    class MadeExtra:
        extra: dict[str, Any] = attrs.field(factory=dict)

    @attrs.frozen
    class Fixed:
        a: str = attrs.field(init=False, default="a")

    @attrs.frozen
    class Told:
        a: str = attrs.field(converter=attrs.Converter(lambda a, _: a, takes_self=True))

    @attrs.frozen
    class Before:
        a: str

        def __attrs_pre_init__(self):
            pass

    @attrs.frozen
    class After:
        a: str

        def __attrs_post_init__(self):
            pass

    @attrs.frozen(slots=False)
    class Open:
        a: str

    return [Validated, Made, MadeExtra, Fixed, Told, Before, After, Open]


@pytest.mark.parametrize("cls", special_classes(), ids=lambda cls: cls.__name__)
def test_a_class_whose_making_is_more_than_its_attributes_is_not_read_quickly(hooked, cls):
    """A validator, a factory, an `__attrs_post_init__`: the law reads, which calls the class."""
    assert reader_of(cls, hooked.read, hooked.hooks) == hooked.read


def test_the_code_is_shown_in_tracebacks(hooked):
    """Its lines can be looked up under the name of its file, which is the same each time."""
    code = reader_of(Record, hooked.read, hooked.hooks).__code__
    assert code.co_filename == f"<reader of {__name__}.Record>"
    lines = linecache.getlines(code.co_filename)
    assert lines[0] == "def read(document, kind):\n"
    assert lines[-1] == "    return record\n"
    linecache.checkcache()
    assert linecache.getlines(code.co_filename) == lines


# --- Instances -----------------------------------------------------------------------------------

READ = decode_call(EXAMPLE_BODY)
MADE = Call(
    **{field.name: getattr(READ, field.name) for field in attrs.fields(Call)}
    | {
        "call_type": "CALL_SESSION",
        "contact": Contact(
            **{f.name: getattr(READ.contact, f.name) for f in attrs.fields(Contact)}
        ),
        "caller": Caller(first_name="Alice", last_name="Martin"),
        "phone_number": PhoneNumber(value="+33612345678"),
        "caller_phone_number": PhoneNumber(value="+33612345678"),
    }
)
PAIRS = [
    (READ, MADE),
    (READ.contact, MADE.contact),
    (READ.caller, MADE.caller),
    (READ.phone_number, MADE.phone_number),
]


@pytest.mark.parametrize(("read", "made"), PAIRS, ids=lambda record: type(record).__name__)
def test_a_record_that_was_read_is_one_that_was_made(read, made):
    """Nothing tells them apart: class, value, hash, repr, size, pickle, copies, evolution."""
    assert type(read) is type(made)
    assert read.__class__ is made.__class__
    assert read == made
    assert hash(read) == hash(made)
    assert repr(read) == repr(made)
    assert read.__sizeof__() == made.__sizeof__()
    assert not hasattr(read, "__dict__")
    assert read.__getstate__() == made.__getstate__()
    assert attrs.asdict(read) == attrs.asdict(made)
    for again in (
        pickle.loads(pickle.dumps(read)),
        copy.copy(read),
        copy.deepcopy(read),
        attrs.evolve(read),
    ):
        assert again == made
        assert type(again) is type(made)


@pytest.mark.parametrize("record", PAIRS[0] + PAIRS[1] + PAIRS[2] + PAIRS[3])
def test_a_record_is_frozen_and_can_be_referred_to_weakly(record):
    """As it came from the codec, and as it came from its class."""
    name = attrs.fields(type(record))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(record, name, "x")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(record, name)
    with pytest.raises(AttributeError):
        record.other = 1
    assert weakref.ref(record)() is record


def test_a_known_call_type_is_its_member():
    """The enum is applied by the class's own converter."""
    assert READ.call_type is CallType.CALL_SESSION


# --- Times ---------------------------------------------------------------------------------------


def test_the_usual_form_is_told_by_its_letters():
    """Any digits, of a real time or not, and as many times as are asked for."""
    assert are_usual((A_TIME,), usual_times(1))
    assert are_usual((TEXT, "9876-54-32T10:98:76.543Z"), usual_times(2))
    assert not are_usual((TEXT,), usual_times(2))


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused_or_not_usual(text):
    """Nothing that the contract refuses gets through the quick pass."""
    if are_usual((text,), usual_times(1)):
        with pytest.raises(ValueError, match="must be in"):
            datetime.fromisoformat(text)


@pytest.mark.parametrize(
    "times",
    [
        (TEXT[:-1], "Z"),
        (TEXT + "|" + TEXT, ""),
        ("", TEXT + "|" + TEXT),
        (TEXT[:10], TEXT[10:] + "|" + TEXT),
        (b"2024-03-20T09:00:00.000Z", TEXT),
        (None, TEXT),
        (TEXT, "2024-03-20T09:00:00.000\ud800"),
        (TEXT, "2024-03-20T24:00:00.000Z"),
    ],
)
def test_no_value_passes_by_the_help_of_its_neighbour(times):
    """Each value is in the form by itself, whatever the others are."""
    assert not are_usual(times, usual_times(2))


def test_the_example_is_read_without_its_hooks():
    """The page's example is the ordinary document: the law of no class is asked about it."""
    # Were it otherwise the codec would be as right, and several times as slow.
    asked = []
    hooked = Hooked()
    hooks = attrs.evolve(hooked.hooks, as_is=hooked.hooks.as_is | {CallType | str: str})
    reader_of(Call, lambda value, _: asked.append(value), hooks)(example(), Call)
    assert not asked
    assert [kind for _, kind in hooked.asked] == [Contact, PhoneNumber, Caller, PhoneNumber]
