"""What a client is told: frozen, and refused at once, by name, where it cannot work."""

from __future__ import annotations

import copy
import functools
import ipaddress
import math
import pickle
import platform
import ssl
import sys
import traceback
from decimal import Decimal

import attrs
import pytest
import tenacity
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from calls_async import __version__
from calls_async._secret import ApiKey
from calls_async.config import (
    ClientConfig,
    Limits,
    RetryPolicy,
    Timeouts,
    check_headers,
    check_hooks,
    check_pace,
    check_proxy,
    check_ssl,
    check_timeout,
    check_user_agent,
    resolve_base_url,
    resolve_key,
)
from calls_async.errors import ConfigurationError

SECRET = "q7Wz9Kx2mV4t"

DEFAULTS = {
    RetryPolicy: {
        "max_attempts": 4,
        "max_throttled_attempts": 10,
        "backoff_base": 0.05,
        "throttle_backoff_base": 1.0,
        "backoff_factor": 2.0,
        "max_backoff": 20.0,
        "max_server_wait": 120.0,
        "stop": None,
        "wait": None,
        "retry": None,
    },
    Timeouts: {"attempt": 10.0, "total": 30.0},
    Limits: {
        "max_concurrency": 64,
        "max_rate": None,
        "patience": 300.0,
        "hedge": None,
        "max_body_bytes": 1_048_576,
    },
}
"""Written from the design by hand."""

COUNTS = [
    (RetryPolicy, "max_attempts"),
    (RetryPolicy, "max_throttled_attempts"),
    (Limits, "max_concurrency"),
    (Limits, "max_body_bytes"),
]
LEAST = {
    (RetryPolicy, "backoff_base"): 0.0,
    (RetryPolicy, "throttle_backoff_base"): 0.0,
    (RetryPolicy, "backoff_factor"): 1.0,
    (RetryPolicy, "max_backoff"): 0.0,
    (RetryPolicy, "max_server_wait"): 0.0,
    (Timeouts, "attempt"): 0.001,
    (Timeouts, "total"): 0.001,
    (Limits, "max_rate"): 0.001,
    (Limits, "patience"): 0.001,
}
SHARES = [(Limits, "hedge")]
STRATEGIES = [(RetryPolicy, "stop"), (RetryPolicy, "wait"), (RetryPolicy, "retry")]

NO_NUMBERS = [True, False, "3", b"3", 1j, Decimal(3), [3], object()]
NO_FINITE_NUMBERS = [math.nan, math.inf, -math.inf]
BEYOND_FLOATS = [10**400, -(10**400), 10**5000]  # the last one is too long even to be printed


def refused(action, *args, **options):
    """The message with which an option is refused; it quotes no secret, and chains nothing."""
    with pytest.raises(ConfigurationError) as caught:
        action(*args, **options)
    error = caught.value
    assert error.__cause__ is None
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error)
    return error.message


# --- Policies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", DEFAULTS)
def test_the_defaults_are_the_design_s(policy):
    """What is not given has the value that the design names."""
    assert attrs.asdict(policy()) == DEFAULTS[policy]


def test_every_option_is_checked():
    """These tests leave no option out."""
    every = {(policy, field.name) for policy in DEFAULTS for field in attrs.fields(policy)}
    assert {*COUNTS, *LEAST, *SHARES, *STRATEGIES} == every


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(("policy", "option"), [*COUNTS, *LEAST, *SHARES])
def test_what_is_no_number_is_refused(policy, option, value):
    """A number of another kind, a text or a bool is refused, by the option's name."""
    message = refused(policy, **{option: value})
    kind = "a whole number" if (policy, option) in COUNTS else "a number"
    expected = f"{policy.__name__}({option}=...) must be {kind}, not {type(value).__name__}"
    assert message == expected


@pytest.mark.parametrize("value", NO_FINITE_NUMBERS)
@pytest.mark.parametrize(("policy", "option"), [*LEAST, *SHARES])
def test_what_is_not_finite_is_refused(policy, option, value):
    """`asyncio.sleep(nan)` never returns, and "for ever" is no policy."""
    message = refused(policy, **{option: value})
    assert message.startswith(f"{policy.__name__}({option}=...) must be finite")


@pytest.mark.parametrize("value", BEYOND_FLOATS, ids=["10^400", "-10^400", "10^5000"])
@pytest.mark.parametrize(("policy", "option"), [*COUNTS, *LEAST, *SHARES])
def test_a_number_beyond_all_floats_is_refused(policy, option, value):
    """It would overflow in the first sum with a time."""
    message = refused(policy, **{option: value})
    assert message.startswith(f"{policy.__name__}({option}=...) must be finite")


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, math.nan, math.inf, None])
@pytest.mark.parametrize(("policy", "option"), COUNTS)
def test_a_count_is_a_whole_number_from_one_on(policy, option, value):
    """None of something would be no client at all, and half of one does not exist."""
    assert refused(policy, **{option: value}).startswith(f"{policy.__name__}({option}=...) must be")


@pytest.mark.parametrize(("policy", "option"), COUNTS)
def test_a_count_may_be_one_or_large(policy, option):
    """The bound itself is allowed."""
    assert getattr(policy(**{option: 1}), option) == 1
    assert getattr(policy(**{option: 10**9}), option) == 10**9


@pytest.mark.parametrize(("where", "least"), LEAST.items())
def test_an_amount_has_a_least_value(where, least):
    """The least value is allowed, and so is a whole number; what is below is refused."""
    policy, option = where
    assert getattr(policy(**{option: least}), option) == least
    assert getattr(policy(**{option: 7}), option) == 7
    for value in (math.nextafter(least, -math.inf), -1, -0.5):
        message = refused(policy, **{option: value})
        assert message.startswith(f"{policy.__name__}({option}=...) must be ")
        assert message.endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("policy", "option", "bound"),
    [
        (RetryPolicy, "max_attempts", "1"),
        (RetryPolicy, "backoff_factor", "1"),
        (RetryPolicy, "max_backoff", "0 seconds"),
        (Timeouts, "total", "millisecond"),
        (Limits, "max_rate", "0.001"),
        (Limits, "hedge", "0.05"),
    ],
)
def test_the_message_names_the_bound(policy, option, bound):
    """Who reads it knows which value would do."""
    assert bound in refused(policy, **{option: -7})


@pytest.mark.parametrize("hedge", [None, 0.001, 0.05])
def test_a_share_of_hedges_is_taken(hedge):
    """Both bounds are allowed, and none at all."""
    assert Limits(hedge=hedge).hedge == hedge


@pytest.mark.parametrize("hedge", [0, 0.0009, 0.0501, 1.0, True, "0.05"])
def test_a_share_of_hedges_that_is_none_or_too_much_is_refused(hedge):
    """More than one in twenty is no hedge against the slow tail any more, but load."""
    assert refused(Limits, hedge=hedge).startswith("Limits(hedge=...) must be ")


def test_the_largest_float_is_finite():
    """It is as good as no bound, and a sensible thing to write."""
    assert RetryPolicy(max_backoff=sys.float_info.max).max_backoff == sys.float_info.max


@pytest.mark.parametrize(
    ("policy", "option"), [where for where in LEAST if where != (Limits, "max_rate")]
)
def test_only_the_rate_may_be_none(policy, option):
    """No limit of the rate is a sensible wish; no limit of a time is not."""
    assert refused(policy, **{option: None}).endswith("must be a number, not NoneType")
    assert Limits(max_rate=None).max_rate is None


@pytest.mark.parametrize(("policy", "option"), STRATEGIES)
def test_a_strategy_can_be_called(policy, option):
    """Tenacity's own strategies are taken, and whatever else can be called; a number is not."""
    for strategy in (tenacity.stop_after_attempt(3), tenacity.wait_none(), lambda _: 1.0, None):
        assert getattr(policy(**{option: strategy}), option) is strategy
    assert refused(policy, **{option: 3}) == (
        f"{policy.__name__}({option}=...) must be a tenacity strategy, not int"
    )


@pytest.mark.parametrize("policy", DEFAULTS)
def test_policies_are_frozen_keyword_only_values(policy):
    """A policy cannot change under a running client, and is equal to its copies."""
    option = attrs.fields(policy)[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(policy(), option, 1)
    with pytest.raises(TypeError):
        policy(1)
    for other in (pickle.loads(pickle.dumps(policy())), copy.deepcopy(policy()), policy()):
        assert other == policy()


def test_a_changed_copy_is_checked_as_well():
    """`attrs.evolve` is no way around the checks."""
    assert "max_attempts" in refused(attrs.evolve, RetryPolicy(), max_attempts=0)


@pytest.mark.parametrize("timeout", [None, 0.001, 5, 2.5])
def test_a_call_s_own_timeout_is_seconds(timeout):
    """Any time from a millisecond on; `None` is "as the client says"."""
    assert check_timeout(timeout) is timeout


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, True, "5", 10**400])
def test_a_call_s_own_timeout_is_checked_by_its_own_name(timeout):
    """The message names `timeout`, which is what the caller wrote."""
    assert refused(check_timeout, timeout).startswith("timeout must be ")


# --- The key -------------------------------------------------------------------------------------


def provider():
    """A key provider as a user may have it."""
    return f"sk_live_{SECRET}"


@pytest.mark.parametrize(
    ("given_key", "environ", "expected"),
    [
        ("sk_live_a", {}, ApiKey("sk_live_a")),
        (None, {"CALLS_API_KEY": "sk_live_b"}, ApiKey("sk_live_b")),
        ("sk_live_a", {"CALLS_API_KEY": "sk_live_b"}, ApiKey("sk_live_a")),
        ("sk_live_a", {"CALLS_API_KEY": "Bearer nonsense"}, ApiKey("sk_live_a")),
        (provider, {"CALLS_API_KEY": "sk_live_b"}, provider),
    ],
)
def test_the_key_comes_from_the_argument_or_else_the_environment(given_key, environ, expected):
    """The argument wins, and a provider is not asked before it is needed."""
    assert resolve_key(given_key, environ) == expected


def test_no_key_names_both_ways_to_give_one():
    """What is nowhere is an error that says where it could be."""
    message = refused(resolve_key, None, {})
    assert "api_key=" in message
    assert "CALLS_API_KEY" in message


BAD_KEYS = [
    "",
    f" {SECRET}",
    f"{SECRET}\n",
    f"{SECRET[:6]} {SECRET}",
    f"{SECRET}\x00",
    f"{SECRET}\x1b[0m",
    f"{SECRET}é",
    f"Bearer {SECRET}",
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_a_bad_key_is_refused_by_the_name_of_where_it_came_from(key):
    """Spaces, controls, non-ASCII, "Bearer " and nothing at all are refused, and never quoted."""
    assert refused(resolve_key, key, {}).startswith("api_key ")
    assert refused(resolve_key, None, {"CALLS_API_KEY": key}).startswith("CALLS_API_KEY ")


@pytest.mark.parametrize("key", [b"sk_live_x", 5, ["sk_live_x"], {}])
def test_a_key_of_another_type_is_refused(key):
    """Only a text or a provider can be given; the message names the type alone."""
    assert refused(resolve_key, key, {}) == f"api_key must be a str, not {type(key).__name__}"


# --- The base URL --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com///", "https://api.example.com"),
        ("https://api.example.com/gateway/calls", "https://api.example.com/gateway/calls"),
        ("https://api.example.com/gateway/", "https://api.example.com/gateway"),
        ("https://api.example.com/X", "https://api.example.com/X"),
        ("https://api.example.com/a%20b/%2e%2e%2e", "https://api.example.com/a%20b/%2e%2e%2e"),
        ("https://api.example.com/..a/b..", "https://api.example.com/..a/b.."),
        ("https://api.example.com:8443/x", "https://api.example.com:8443/x"),
        ("https://api.example.com:65535", "https://api.example.com:65535"),
        ("HTTPS://API.example.com", "HTTPS://API.example.com"),
        ("https://api.example.com.", "https://api.example.com."),
        ("https://under_score.example", "https://under_score.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://192.0.2.1", "https://192.0.2.1"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_a_base_url_is_kept_but_for_slashes_at_its_end(url, expected):
    """A path prefix, as gateways have it, stays; nothing is rewritten."""
    assert resolve_base_url(url, {}) == expected


SHAPELESS = "must look like https://host"
CHARACTERS = "has a character that no URL has"
DOTS = "'.' or '..' segments"
QUERY = "query or a fragment"
USER = "user name or a password"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is empty"),
        ("api.example.com", SHAPELESS),
        ("//api.example.com", SHAPELESS),
        ("/v1", SHAPELESS),
        ("https:api.example.com", SHAPELESS),
        ("https:/api.example.com", SHAPELESS),
        ("https:///path", SHAPELESS),
        ("https://", SHAPELESS),
        ("https://:443", SHAPELESS),
        ("ftp://api.example.com", SHAPELESS),
        ("file:///etc/passwd", SHAPELESS),
        ("javascript:alert(1)", SHAPELESS),
        ("unix://api", SHAPELESS),
        ("https://api.example.com:", SHAPELESS),
        ("https://api.example.com:0", SHAPELESS),
        ("https://api.example.com:65536", SHAPELESS),
        ("https://api.example.com:99999", SHAPELESS),
        ("https://api.example.com:abc", SHAPELESS),
        ("https://api.example.com:-1", SHAPELESS),
        ("https://api.example.com:8_0", SHAPELESS),
        ("https://api.example.com:80:80", SHAPELESS),
        ("https://a..b", SHAPELESS),
        ("https://.", SHAPELESS),
        ("https://.example", SHAPELESS),
        ("https://" + "a" * 64, SHAPELESS),
        ("https://ho%73t", SHAPELESS),
        ("https://ho;st", SHAPELESS),
        ("https://ho,st", SHAPELESS),
        ("https://[::1", SHAPELESS),
        ("https://::1", SHAPELESS),
        ("https://[::1]x", SHAPELESS),
        ("https://[v1.x]", SHAPELESS),
        ("https://[]", SHAPELESS),
        ("https://[fe80::1%25eth0]", SHAPELESS),
        ("https://[fe80::1%eth0]", SHAPELESS),
        (f"https://{SECRET}@api.example.com", USER),
        (f"https://user:{SECRET}@api.example.com", USER),
        ("https://@api.example.com", USER),
        ("https://:@api.example.com", USER),
        (f"https://api.example.com?key={SECRET}", QUERY),
        (f"https://api.example.com/x?key={SECRET}", QUERY),
        ("https://api.example.com?", QUERY),
        ("https://api.example.com/#", QUERY),
        (f"https://api.example.com/#{SECRET}", QUERY),
        ("https://api.example.com/..", DOTS),
        ("https://api.example.com/./x", DOTS),
        ("https://api.example.com/x/../y", DOTS),
        ("https://api.example.com/%2e%2e/x", DOTS),
        ("https://api.example.com/%2E", DOTS),
        ("https://api.example.com/.%2e/x", DOTS),
        ("https://api.example.com/x%2f..%2fy", DOTS),
        ("https://api.example.com\\@evil.example", CHARACTERS),
        ("https:\\\\api.example.com", CHARACTERS),
        (" https://api.example.com", CHARACTERS),
        ("https://api.example.com\n", CHARACTERS),
        ("https://api.example.com/a b", CHARACTERS),
        ("https://api.example.com/\x00", CHARACTERS),
        ("ht\ttps://api.example.com", CHARACTERS),
        ("https://bücher.example", CHARACTERS),
        ("https://api.example.com/é", CHARACTERS),
        ("https://ａpi.example.com", CHARACTERS),  # noqa: RUF001 (a full-width letter)
        ("https://api.example.com/{id}", CHARACTERS),
        (b"https://api.example.com", "must be a str, not bytes"),
        (URL("https://api.example.com"), "must be a str, not URL"),
        (5, "must be a str, not int"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_a_base_url_that_cannot_be_meant_is_refused(url, problem):
    """Refused before anything is sent, by the name of where it came from, and never quoted."""
    message = refused(resolve_base_url, url, {}, allow_http=True)
    assert message.startswith("base_url ")
    assert problem in message
    from_environment = refused(resolve_base_url, None, {"CALLS_BASE_URL": url}, allow_http=True)
    assert from_environment == message.replace("base_url", "CALLS_BASE_URL", 1)


LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.255.255.254",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]",
]
ELSEWHERE = [
    "api.example.com",
    "192.0.2.1",
    "10.0.0.1",
    "0.0.0.0",  # noqa: S104 (nothing listens)
    "[::]",
    "[2001:db8::1]",
    "[fe80::1]",
    # These may well be this machine, but only a resolver can tell, and it may say otherwise.
    "localhost.",
    "foo.localhost",
    "localhost.example.com",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "127.0.0.1.example.com",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_plain_http_is_for_loopback_hosts(host):
    """The key does not leave the machine there."""
    assert resolve_base_url(f"http://{host}/x", {}) == f"http://{host}/x"


@pytest.mark.parametrize("scheme", ["http", "HTTP", "hTTp"])
@pytest.mark.parametrize("host", ELSEWHERE)
def test_plain_http_elsewhere_is_refused_unless_it_is_allowed(host, scheme):
    """The message names the option and the way out; https needs no permission."""
    url = f"{scheme}://{host}"
    message = refused(resolve_base_url, url, {})
    assert message.startswith("base_url: plain http ")
    assert "allow_http=True" in message
    assert resolve_base_url(url, {}, allow_http=True) == url
    assert resolve_base_url(f"https://{host}", {}) == f"https://{host}"


def test_the_base_url_comes_from_the_argument_or_else_the_environment():
    """The argument wins; an empty one is not "not given"."""
    environ = {"CALLS_BASE_URL": "https://env.example/"}
    assert resolve_base_url(None, environ) == "https://env.example"
    assert resolve_base_url("https://arg.example", environ) == "https://arg.example"
    assert refused(resolve_base_url, "", environ).startswith("base_url is empty")


def test_no_base_url_names_both_ways_to_give_one():
    """There is no default: the vendor's page has a placeholder."""
    message = refused(resolve_base_url, None, {})
    assert "base_url=" in message
    assert "CALLS_BASE_URL" in message


url_texts = st.one_of(
    st.text(max_size=30),
    st.tuples(
        st.sampled_from(["https://", "http://", "HTTP://", "https:", "//", ""]),
        st.text("a1.-_~:@[]%/!$&'()*+,;=?#x025eE\\ ", max_size=20),
    ).map("".join),
)


@given(url=url_texts, allow_http=st.booleans())
@example(url="https://a1-x.example:8443/a%2F/b//", allow_http=False)
@example(url="http://[::1]:8000/x", allow_http=False)
@example(url="HTTP://127.0.0.1.:80", allow_http=True)
def test_a_base_url_means_the_same_to_whoever_parses_it(url, allow_http):
    """Any text is refused by a `ConfigurationError`, or yarl sees the origin that was checked."""
    try:
        accepted = resolve_base_url(url, {}, allow_http=allow_http)
    except ConfigurationError:
        return
    seen = URL(accepted)
    assert accepted == url.rstrip("/")
    assert seen.scheme in {"http", "https"}
    assert seen.user is seen.password is None
    assert not seen.query_string
    assert not seen.fragment
    host = accepted.split("/")[2]
    assert f"{seen.host_subcomponent}:{seen.port}".startswith(host.partition("]")[0].lower())
    if seen.scheme == "http" and not allow_http:
        assert seen.host == "localhost" or ipaddress.ip_address(str(seen.host)).is_loopback


# --- TLS and proxy -------------------------------------------------------------------------------


def test_a_tls_context_is_taken():
    """A context says what it checks; nothing given is the default checks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert check_ssl(context) is context
    assert check_ssl(None) is None


@pytest.mark.parametrize("value", [False, True, "ca.pem", 0, object()])
def test_what_is_no_tls_context_is_refused(value):
    """A bare `False` would switch the checks off, and a path would do nothing."""
    message = refused(check_ssl, value)
    assert message == f"ssl must be an ssl.SSLContext, not {type(value).__name__}"


@pytest.mark.parametrize(
    "proxy",
    [
        None,
        "http://proxy.example:3128",
        "https://proxy.example",
        f"http://user:{SECRET}@proxy.example:3128",
    ],
)
def test_a_proxy_is_an_http_url(proxy):
    """A proxy may need a user name and a password; the API's own URL may not have them."""
    assert check_proxy(proxy) == proxy


@pytest.mark.parametrize(
    "proxy",
    ["", "proxy:3128", "socks5://proxy:1080", f"http://u:{SECRET}@[proxy", "http://pröxy", 5],
)
def test_what_is_no_proxy_is_refused(proxy):
    """The message names the option and does not quote the URL, which may hold a password."""
    assert refused(check_proxy, proxy).startswith("proxy ")


# --- Headers, user agent, hooks ------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Tenant": "a"},
        {"x-empty": ""},
        {"X-Tab": "a\tb c"},
        {"!#$%&'*+-.^_`|~09Az": "~"},
        {"Accept-Language": "de", "X-Trace": "1"},
    ],
)
def test_headers_of_the_caller_s_own_are_copied(headers):
    """What the caller does to the mapping later does not reach the client."""
    checked = check_headers(headers)
    assert checked == headers
    assert checked is not headers


def test_no_headers_are_none():
    """`None` is "none", and any mapping is taken."""
    assert check_headers(None) == {}
    assert check_headers(CIMultiDict({"X-Tenant": "a"})) == {"X-Tenant": "a"}


def test_a_header_is_given_once():
    """Two fields that differ in case are one, and nobody could say which counts."""
    message = refused(check_headers, {"X-Tenant": "a", "x-tenant": "b"})
    assert message == "headers: x-tenant is given twice"


@pytest.mark.parametrize("headers", [5, ["X-Tenant"], "X-Tenant: a", [("a", "b", "c")], print])
def test_what_is_no_mapping_of_headers_is_refused(headers):
    """The option is named, and nothing foreign is raised."""
    assert refused(check_headers, headers) == (
        f"headers must be a mapping, not {type(headers).__name__}"
    )


@pytest.mark.parametrize("name", ["", "X Tenant", "X-Tenant:", "X\r\nY", "É", "X\n"])
def test_what_is_no_header_name_is_refused(name):
    """A name is a token of RFC 9110."""
    message = refused(check_headers, {name: "a"})
    assert message == f"headers: {name!a} is no header name"


class Unprintable:
    """Its own repr raises, so no message may show it."""

    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize("name", [b"X", 5, None, Unprintable()], ids=["bytes", "int", "None", "x"])
def test_a_header_name_that_is_no_text_is_refused_by_its_type(name):
    """Whatever it is, nothing foreign is raised."""
    message = refused(check_headers, {name: "a"})
    assert message == f"headers: a name must be a str, not {type(name).__name__}"


@pytest.mark.parametrize(
    "value",
    [
        f"{SECRET}\r\nX: y",
        f"{SECRET}\n",
        f" {SECRET}",
        f"{SECRET} ",
        f"{SECRET}é",
        f"{SECRET}\x7f",
        "\x00",
        "\ud800",
        SECRET.encode(),
        5,
        None,
    ],
    ids=ascii,
)
def test_what_is_no_header_value_is_refused_unquoted(value):
    """The value may be a gateway's secret, so only the name is told."""
    message = refused(check_headers, {"X-Gateway-Key": value})
    assert message == "headers: the value of X-Gateway-Key is no printable ASCII text"


@pytest.mark.parametrize(
    "name",
    [
        "Accept-Encoding",
        "Authorization",
        "authorization",
        "Connection",
        "Content-Length",
        "Cookie",
        "Expect",
        "HOST",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ],
)
def test_headers_that_are_the_client_s_are_refused(name):
    """A second key, host or framing would undo what the client promises."""
    assert refused(check_headers, {name: SECRET}) == f"headers: {name} is set by the client itself"


def test_the_user_agent_names_library_and_python():
    """Operators of the server see who is calling."""
    major, minor, _ = platform.python_version_tuple()
    assert check_user_agent(None) == f"calls_async/{__version__} Python/{major}.{minor}"
    assert check_user_agent("crm-sync/2 (ops@example.com)") == "crm-sync/2 (ops@example.com)"


@pytest.mark.parametrize("user_agent", ["", " ", "a\r\nb", "a\n", " a", "é", "\x00", 5, b"a"])
def test_what_cannot_be_a_user_agent_is_refused(user_agent):
    """It goes into a header, so it is printable ASCII."""
    assert refused(check_user_agent, user_agent).startswith("user_agent must be printable ASCII")


@pytest.mark.parametrize("hooks", [(), [print], {print}, (hook for hook in (print, repr))])
def test_hooks_are_any_iterable_of_callables(hooks):
    """They are kept as a tuple, so that the iterable is read once."""
    checked = check_hooks(hooks)
    assert isinstance(checked, tuple)
    assert set(checked) <= {print, repr}


@pytest.mark.parametrize("hooks", [print, None, 5, "print", [print, None], [5]])
def test_what_are_no_hooks_is_refused(hooks):
    """A function that was given alone is the usual slip, so the message shows how."""
    message = refused(check_hooks, hooks)
    assert message == "hooks must be an iterable of callables: hooks=(print,)"


class Pace:
    """What has the methods of a `FleetPace`."""

    async def reserve(self, most): ...

    async def park(self, seconds): ...

    async def close(self): ...


@pytest.mark.parametrize("pace", [None, Pace()])
def test_a_pace_is_what_has_its_methods(pace):
    """Users write their own, so it is known by what it can do."""
    assert check_pace(pace) is pace


@pytest.mark.parametrize("pace", [5, "redis://127.0.0.1", object(), {"reserve": print}])
def test_what_is_no_pace_is_refused(pace):
    """The URL of a Redis is the usual slip, and may hold a password, so it is not quoted."""
    message = refused(check_pace, pace)
    kind = type(pace).__name__
    assert message == f"pace must be a FleetPace, with reserve, park and close, not {kind}"


# --- The whole configuration ---------------------------------------------------------------------


def settings(**changes):
    """A complete configuration."""
    given_settings = {
        "source": ApiKey(f"sk_live_{SECRET}"),
        "base_url": "https://api.example.com",
        "retry": RetryPolicy(),
        "timeouts": Timeouts(),
        "limits": Limits(),
        "session": None,
        "ssl": None,
        "proxy": f"http://user:{SECRET}@proxy.example",
        "trust_env": False,
        "allow_http": False,
        "headers": {"X-Gateway-Key": SECRET},
        "user_agent": "test",
        "hooks": (),
    }
    return ClientConfig(**(given_settings | changes))


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("retry", 4, "retry must be a RetryPolicy, not int"),
        ("retry", None, "retry must be a RetryPolicy, not NoneType"),
        ("retry", Timeouts(), "retry must be a RetryPolicy, not Timeouts"),
        ("timeouts", 30.0, "timeouts must be a Timeouts, not float"),
        ("limits", {"max_rate": 5}, "limits must be a Limits, not dict"),
        ("trust_env", "false", "trust_env must be a bool, not str"),
        ("allow_http", "no", "allow_http must be a bool, not str"),
        ("allow_http", 1, "allow_http must be a bool, not int"),
    ],
)
def test_a_policy_of_another_type_is_refused(option, value, expected):
    """A number instead of a policy, or a text instead of a flag, is found here and not later."""
    assert refused(settings, **{option: value}) == expected
    assert refused(attrs.evolve, settings(), **{option: value}) == expected


@pytest.mark.parametrize("source", [ApiKey(f"sk_live_{SECRET}"), functools.partial(str, SECRET)])
def test_a_configuration_does_not_print_its_secrets(source):
    """Neither the key, nor what a provider holds, nor the proxy's password, nor a header.

    A session or a context is the caller's own, and says of itself what it likes.
    """
    foreign = functools.partial(print, SECRET)
    config = settings(source=source, hooks=(foreign,), session=foreign, ssl=foreign, pace=foreign)
    assert SECRET not in f"{config!r} {config}"
    assert "https://api.example.com" in repr(config)


def test_a_configuration_is_frozen():
    """A client's configuration is what it was made with."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings().base_url = "https://evil.example"


PLAIN = "http://127.0.0.1:8080"
FAR_PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize("proxy", [FAR_PROXY, "https://10.0.0.1", "http://[2001:db8::1]:3128"])
def test_plain_http_through_a_far_proxy_is_refused(proxy):
    """That proxy would read the key, wherever the request goes in the end."""
    assert refused(settings, base_url=PLAIN, proxy=proxy).startswith("proxy: plain http")


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "https://api.example.com", "proxy": FAR_PROXY},
        {"base_url": PLAIN, "proxy": "http://127.0.0.1:3128"},
        {"base_url": PLAIN, "proxy": "http://localhost:3128"},
        {"base_url": PLAIN, "proxy": FAR_PROXY, "allow_http": True},
        {"base_url": PLAIN, "proxy": None},
    ],
    ids=["a tunnel", "near", "near by name", "allowed by name", "none"],
)
def test_where_no_proxy_reads_the_key_it_is_taken(changes):
    """Through https it is a tunnel; on this machine nobody else reads; or it was asked for."""
    assert settings(**changes).proxy == changes["proxy"]
