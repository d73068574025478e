"""The key: what may be one, and that nothing but the request itself ever shows it."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async._scrub import MOST, Scrubber
from calls_async._secret import MASK, ApiKey
from calls_async.errors import ConfigurationError

SECRET = "q7Wz9Kx2mV4t"
PREFIXES = ("sk_live_", "sk_test_", "", "SK_LIVE_", "sk_", "Bearer", "key-")

# Digits and marks that no text of ours has, so that a run of six can only come from the key.
secrets = st.text("0123456789#+=/", min_size=6, max_size=40)
prefixes = st.sampled_from(PREFIXES)


def shows(text, secret):
    """Whether a run of six characters of the secret is in the text."""
    return any(secret[start : start + 6] in text for start in range(len(secret) - 5))


def renderings(key):
    """All that Python offers to make a text of an object."""
    yield repr(key)
    yield str(key)
    yield f"{key} {key!r} {key!s} {key!a}"
    yield "%s %r" % (key, key)  # noqa: UP031 (one more way)
    yield repr([key]) + repr({"key": key}) + repr((key,))
    yield logging.LogRecord("n", 20, "p", 1, "%s %r", (key, key), None).getMessage()
    for name in dir(key):
        member = getattr(key, name)
        if name not in {"_text", "authorization"}:
            yield repr(member)
            yield str(member)


# --- What may be a key ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_printable_ascii_text_can_be_a_key(prefix):
    """The page names two prefixes; a key of another kind is not refused for that."""
    assert ApiKey(prefix + SECRET).authorization() == f"Bearer {prefix}{SECRET}"


REFUSED = [
    ("", "is empty"),
    (f" sk_live_{SECRET}", "white space around it"),
    (f"sk_live_{SECRET} ", "white space around it"),
    (f"sk_live_{SECRET}\n", "white space around it"),
    (f"sk_live_{SECRET}\r\n", "white space around it"),
    (f"\ufeffsk_live_{SECRET}", "outside ASCII"),
    (f"\u00a0sk_live_{SECRET}", "white space around it"),
    (f"sk_live_ {SECRET}", "a space"),
    (f"sk_live_\t{SECRET}", "a control character"),
    (f"sk_live_\x00{SECRET}", "a control character"),
    (f"sk_live_\x7f{SECRET}", "a control character"),
    (f"sk_live_{SECRET}\r\nX-Evil: {SECRET}", "a control character"),
    (f"sk_live_{SECRET}é", "outside ASCII"),
    (f"sk_live_{SECRET}\u200b", "outside ASCII"),
    (f"sk_live_{SECRET}\ud800", "outside ASCII"),
    (f"Bearer sk_live_{SECRET}", "without the word 'Bearer'"),
    (f"bearer sk_live_{SECRET}", "without the word 'Bearer'"),
    (f"BEARER {SECRET}", "without the word 'Bearer'"),
    (f"sk_live_{SECRET}".encode(), "must be a str, not bytes"),
    (123456789012, "must be a str, not int"),
    (None, "must be a str, not NoneType"),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED, ids=lambda value: ascii(value)[:40])
def test_what_cannot_be_a_key_is_refused_without_being_quoted(text, problem):
    """The message says what is wrong and where the key came from, and holds no part of it."""
    with pytest.raises(ConfigurationError) as caught:
        ApiKey(text, origin="CALLS_API_KEY")
    error = caught.value
    assert error.message.startswith("CALLS_API_KEY ")
    assert problem in error.message
    told = (str(error), repr(error), repr(error.args), *error.__notes__)
    for said in (*told, "".join(traceback.format_exception(error))):
        assert not shows(said, SECRET)
        assert not shows(said, "123456789012")
    assert error.__cause__ is None
    assert error.__context__ is None


def test_the_origin_is_the_argument_unless_told_otherwise():
    """Without an origin the message names the client's argument."""
    with pytest.raises(ConfigurationError, match=r"^api_key is empty"):
        ApiKey("")


# --- It cannot be printed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"sk_live_{SECRET}", "ApiKey('sk_live_***')"),
        (f"sk_test_{SECRET}", "ApiKey('sk_test_***')"),
        ("sk_test_", "ApiKey('sk_test_***')"),
        (f"other_{SECRET}", "ApiKey('***')"),
        (f"xsk_live_{SECRET}", "ApiKey('***')"),
    ],
)
def test_repr_tells_live_from_test_and_no_more(text, expected):
    """Only the prefix that all keys of a kind share is shown."""
    assert repr(ApiKey(text)) == str(ApiKey(text)) == f"{ApiKey(text)}" == expected


@given(prefix=prefixes, secret=secrets)
def test_no_rendering_shows_six_characters_of_the_secret(prefix, secret):
    """repr, str, format, logs and every attribute but the text itself keep the secret."""
    for text in renderings(ApiKey(prefix + secret)):
        assert not shows(text, secret)


def test_there_is_no_dict_to_look_into():
    """`vars` has nothing to show, and nothing can be added."""
    key = ApiKey(SECRET)
    with pytest.raises(TypeError):
        vars(key)
    with pytest.raises(AttributeError):
        key.label = "mine"


def test_a_format_specification_is_refused_without_the_text():
    """`f"{key:>20}"` is an error, whose message does not help either."""
    with pytest.raises(TypeError) as caught:
        f"{ApiKey(SECRET):>20}"
    assert not shows(str(caught.value), SECRET)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_is_never_pickled(protocol):
    """No protocol writes it, whatever holds it, and the refusal does not quote it."""
    with pytest.raises(ConfigurationError, match="never pickled") as caught:
        pickle.dumps({"key": ApiKey(SECRET)}, protocol)
    assert not shows("".join(traceback.format_exception(caught.value)), SECRET)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_a_key_is_not_copied_either(how):
    """Copying goes the way of pickling; there is one key object, and who needs it shares it."""
    with pytest.raises(ConfigurationError):
        how(ApiKey(SECRET))


# --- Equality ------------------------------------------------------------------------------------


def test_keys_are_equal_if_their_texts_are():
    """Whether a provider gave another key is found by comparing."""
    key = ApiKey(SECRET)
    assert key == ApiKey(SECRET)
    assert hash(key) == hash(ApiKey(SECRET))
    assert hash(key) != hash(ApiKey(f"{SECRET}x"))
    assert key != ApiKey(SECRET + "x")
    assert len({key, ApiKey(SECRET), ApiKey("other")}) == 2


@pytest.mark.parametrize("other", [SECRET, SECRET.encode(), None, MASK])
def test_a_key_is_not_equal_to_its_text(other):
    """A comparison with anything else is no way to try texts out."""
    assert ApiKey(SECRET) != other


# --- Scrubbing -----------------------------------------------------------------------------------


@given(
    kind=st.sampled_from(["sk_live_", "sk_test_"]),
    secret=secrets,
    before=st.binary(),
    after=st.binary(),
)
def test_scrub_leaves_no_secret_behind(kind, secret, before, after):
    """Whatever surrounds it, with its prefix or alone, the secret is gone."""
    for echoed in (kind + secret, secret, f"Bearer {kind}{secret}", secret * 2):
        scrubbed = ApiKey(kind + secret).scrub(before + echoed.encode() + after)
        assert secret.encode() not in scrubbed
        assert MASK.encode() in scrubbed


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("sk_live_abc", b'{"detail":"bad key sk_live_abc"}', b'{"detail":"bad key ***"}'),
        ("sk_live_abcdef", b"abcdef and abcdef", b"*** and ***"),
        ("sk_live_abcde", b"abcde and abcde", b"abcde and abcde"),
        ("sk_live_abc", b"nothing here", b"nothing here"),
        ("sk_live_", b"your key sk_live_ is short", b"your key *** is short"),
        ("plain", b"plain text", b"*** text"),
        ("sk_live_sk_live_a", b"sk_live_sk_live_a", b"sk_live_sk_***"),
        ("sk_live_abcdefgh", b"key sk_live_abcdef... is bad", b"key sk_live_***... is bad"),
        ("sk_live_abcdefgh", b"key ...bcdefgh is bad", b"key ...*** is bad"),
        ("sk_live_abcdefgh", b"KEY SK_LIVE_ABCDEFGH IS BAD", b"KEY SK_LIVE_*** IS BAD"),
        ("sk_live_abcdefgh", b"key abcde... is bad", b"key abcde... is bad"),
        ("sk_live_a/b+c&d", b"key sk_live_a%2Fb%2bc%26d!", b"key sk_live_***!"),
        ("sk_live_a/b+c&d", b'"key sk_live_a\\/b+c&d"', b'"key sk_live_***"'),
        ("sk_live_a/b+c&d", b"<b>sk_live_a&sol;b&#43;c&amp;d</b>", b"<b>sk_live_***</b>"),
        ("sk_live_%41%42%43", b"key %2541%2542%2543.", b"key ***."),
        ("sk_live_%41%42%43", b"key %41%42%43.", b"key ***."),
        ("sk_live_$1.*(x)[", b"key sk_live_$1.*(x)[ is bad", b"key sk_live_*** is bad"),
        ("sk_live_$1.*(x)[", b"key \\$1\\.\\*\\(x\\)\\[ is bad", b"key *** is bad"),
        ("a", b"a bad key", b"*** b***d key"),
        ("ab", b"xab ab", b"x*** ***"),
        ("sk_live_abc", b"sk%5flive%5fabc and abc", b"*** and abc"),
        ("sk_live_abc", b"736b5f6c6976655f616263 in hex", b"*** in hex"),
        ("sk_live_abc", b"QmVhcmVyIHNrX2xpdmVfYWJj", b"QmVhcmVyIH***"),
    ],
)
def test_scrub_takes_out_the_key_and_leaves_the_rest(text, data, expected):
    """Only the secret is masked, so that the answer stays readable."""
    assert ApiKey(text).scrub(data) == expected


@pytest.mark.parametrize("length", [MOST - 1, MOST, MOST + 1, 20 * MOST])
def test_what_is_kept_of_a_long_text_is_what_was_searched(length):
    """No more than 16 KiB is looked at, and nothing of what stands behind that is shown."""
    key = ApiKey(f"sk_live_{SECRET}")
    assert key.scrub(b"." * length) == b"." * min(length, MOST)
    scrubbed = key.scrub(b"." * (length - 4) + SECRET.encode() * 2)
    assert not shows(scrubbed.decode(), SECRET)


def scrubbed_at_length(key, data):
    """What `scrub` makes of a text that is too long to be looked through at one go."""
    ahead = b"." * 200
    return key.scrub(ahead + b" " + data)[len(ahead) + 1 :]


some_secrets = st.text("abz%&\\;x4142=+/-", min_size=1, max_size=14) | st.text(
    "0123456789abcdefAF-", min_size=1, max_size=14
)
pasts = st.lists(some_secrets, min_size=1, max_size=3)


@given(secrets_=pasts, data=st.data())
def test_a_first_look_overlooks_nothing(secrets_, data):
    """Short and long texts, with any pieces of any keys in any case, are scrubbed alike."""
    key = None
    for secret in secrets_:
        key = ApiKey(secret, after=key)
    parts = [secret[at:] for secret in secrets_ for at in range(len(secret))]
    parts += [part.upper() for part in parts] + [part.encode().hex() for part in parts]
    parts += [part[:6] for part in parts] + [b64encode(part.encode()).decode() for part in parts]
    text = "".join(
        data.draw(st.lists(st.sampled_from(parts) | st.text("abcf%41&-.", max_size=5), max_size=8))
    )
    short = text.encode()[:64]
    assert key.scrub(short) == scrubbed_at_length(key, short)


digits = st.text("0123456789abcdef-", min_size=1, max_size=14)


@given(secrets_=st.lists(digits | some_secrets, min_size=1, max_size=3), data=st.data())
def test_a_first_look_at_hexadecimal_digits_overlooks_nothing(secrets_, data):
    """They are looked at in another way, and scrubbed like any text."""
    key = None
    for secret in secrets_:
        key = ApiKey(secret, after=key)
    parts = [secret.encode().hex() for secret in secrets_]
    parts += [
        secret.lower() for secret in secrets_ if set(secret.lower()) <= set("0123456789abcdef-")
    ]
    parts += [part[at:] for part in parts for at in (1, 2, 5)]
    text = "".join(data.draw(st.lists(st.sampled_from(parts) | digits, max_size=8)))
    short = text.encode()[:64]
    assert key.scrub(short) == scrubbed_at_length(key, short)


@pytest.mark.parametrize("secret", [SECRET, f"{SECRET[:9]}0a1b2c{SECRET[9:]}", "0-1a2b3c-4d5e"])
def test_a_piece_of_the_key_is_found_anywhere_in_an_id(secret):
    """Of a request id in hexadecimal digits each place is looked at, for each piece."""
    key = ApiKey(f"sk_live_{secret}")
    blank = b"f" * 32
    texts = [secret[at : at + 6].encode() for at in range(len(secret) - 5)]
    pieces = [text for text in texts if not text.strip(b"0123456789abcdef-")]
    pieces += [text.hex().encode() for text in texts]
    for piece in pieces:
        for at in range(len(blank) - len(piece) + 1):
            request_id = blank[:at] + piece + blank[at + len(piece) :]
            assert b"***" in key.scrub(request_id)
            assert piece not in key.scrub(request_id)


@pytest.mark.parametrize(
    "request_id",
    [
        SECRET[:5].encode() + b"_" + SECRET[1:6].encode(),
        SECRET[:5].encode().hex().encode() + b"--" + SECRET[1:6].encode().hex().encode(),
    ],
)
def test_an_id_with_less_of_the_key_is_left_as_it_is(request_id):
    """Five characters are no secret, and nothing is copied either."""
    assert ApiKey(f"sk_test_{SECRET}").scrub(request_id) is request_id


def test_a_short_text_without_the_key_is_left_as_it_is():
    """Nothing is copied: each record comes with a request id."""
    request_id = b"0f8fad5b-d9cb-469f-a165-70867728950e"
    assert ApiKey(f"sk_test_{SECRET}").scrub(request_id) is request_id
    assert ApiKey("ab").scrub(request_id) is request_id
    assert ApiKey("ab").scrub(b"a") == b"a"


FULL = 64 * MOST
EVERY_ESCAPE = "".join(f"%25{ord(char):02x}" for char in SECRET)
ADVERSARIES = {
    "escapes": b"%41",
    "escapes of escapes": b"%252541",
    "backslashes": b"\\",
    "near misses": f"{SECRET[:5]}-{SECRET[1:6]}-".encode(),
    "nothing but the key": SECRET.encode(),
    "nothing but the key, escaped": EVERY_ESCAPE.encode(),
    "an endless escape": b"&#x" + b"0" * FULL,
}


@pytest.mark.parametrize("text", ADVERSARIES.values(), ids=ADVERSARIES.keys())
def test_no_text_makes_scrubbing_long(text):
    """Of a body of a megabyte the first 16 KiB are read and searched, whatever it is made of."""
    key = ApiKey(f"sk_live_{SECRET}")
    body = text * (FULL // len(text) + 1)
    assert key.scrub(body) == key.scrub(body[:MOST])


def test_what_looks_for_a_key_is_never_pickled():
    """It knows enough to tell the key."""
    with pytest.raises(ConfigurationError, match="never pickled"):
        pickle.dumps(Scrubber("sk_test_", SECRET))


def test_escapes_that_stand_for_no_character_of_a_key_are_left():
    """They hide nothing, and what stands around them is found all the same."""
    key = ApiKey(f"sk_test_{SECRET}")
    hidden = SECRET[:3] + f"%{ord(SECRET[3]):02x}" + SECRET[4:]
    assert key.scrub(f"&copy; &nosuch; {hidden}".encode()) == b"&copy; &nosuch; ***"


ODD = "q7?>~Wz9~~>?Kx2mV4t"
"""A secret whose base64 has the characters that differ in URLs."""


@pytest.mark.parametrize("ahead", range(3))
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_six_characters_in_base64_are_scrubbed_wherever_they_stand(encode, ahead):
    """Eight characters of it hold six of the key's, whatever stands before; seven do not."""
    key = ApiKey(f"sk_test_{ODD}")
    encoded = encode(b"A" * ahead + ODD.encode())
    first = -(-8 * ahead // 6)
    last = 8 * (ahead + len(ODD)) // 6
    for at in range(first, last - 7):
        assert key.scrub(b"< " + encoded[at : at + 8] + b" >") == b"< *** >"
        assert key.scrub(encoded[at : at + 7]) == encoded[at : at + 7]


@pytest.mark.parametrize("secret", ["q7Wz9K", SECRET])
def test_six_characters_in_hexadecimal_are_scrubbed(secret):
    """Twelve digits of it, of the shortest secret that is looked for in pieces as well."""
    assert ApiKey(f"sk_test_{secret}").scrub(secret[:6].encode().hex().encode()) == b"***"
    assert ApiKey(f"sk_test_{secret}").scrub(b64encode(secret[:6].encode())) == b"***"


def test_named_characters_are_read():
    """The marks that a key may have, as HTML names them."""
    key = ApiKey("sk_test_a!b_c{d~e")
    assert key.scrub(b"a&excl;b&lowbar;c&lcub;d~e") == b"***"


def test_what_is_kept_is_sixteen_kibibytes():
    """As the errors' page says."""
    assert len(ApiKey(f"sk_test_{SECRET}").scrub(b"x" * 20_000)) == 16_384


def test_a_key_scrubs_those_that_it_replaced():
    """A server may echo them from its cache or its log: the last seven before it, and no more."""
    secrets_ = [f"{number}{SECRET[::-1]}{number}" for number in range(10)]
    key = None
    for secret in secrets_:
        key = ApiKey(f"sk_test_{secret}", after=key)
    for secret in secrets_[2:]:
        assert key.scrub(secret.encode()) == b"***"
    distinct = ["mNbVcX", "pOiUzT", *(f"{number}{number}zzzz" for number in range(7))]
    key = None
    for secret in distinct:
        key = ApiKey(f"sk_test_{secret}", after=key)
    assert key.scrub("".join(distinct[:2]).encode()) == b"mNbVcX***"


def test_two_keys_side_by_side_have_one_mask():
    """What was there is not told by how many masks there are."""
    key = ApiKey("sk_test_mNbVcX", after=ApiKey("sk_test_pOiUzT"))
    assert key.scrub(b"mNbVcXpOiUzT mNbVcX") == b"*** ***"


def test_a_key_that_replaces_itself_forgets_none_of_the_others():
    """A provider may give the same key twice."""
    key = ApiKey("sk_test_mNbVcX", after=ApiKey("sk_test_pOiUzT"))
    for _ in range(9):
        key = ApiKey("sk_test_mNbVcX", after=key)
    assert key.scrub(b"pOiUzT") == b"***"
