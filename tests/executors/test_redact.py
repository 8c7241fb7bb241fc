"""What the filter of logs promises: no encoding of a secret passes, wherever the stream is cut, and all else does."""

import base64
import itertools
import json
import re
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.executors.redact import Redactor, patterns

TOKEN = 'pä ss"w/ord~+?>\\€😀(7)!'  # something to escape for each encoding
KEY = "-----BEGIN KEY-----\r\nMIIEvQIBADAN\r\nab\r\n  Bgkqhkiu9w0BAQEF\r\n-----END KEY-----\r\n"


def in_two(redactor, text):
    """All results of a stream that comes in two chunks, cut at each place."""
    return {redactor.feed(text[:i]) + redactor.feed(text[i:]) + redactor.flush() for i in range(len(text) + 1)}


def in_chunks(redactor, text, cuts):
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    return b"".join(redactor.feed(text[i:j]) for i, j in itertools.pairwise(places)) + redactor.flush()


# --- encodings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(TOKEN, id="raw"),
        pytest.param(json.dumps(TOKEN)[1:-1], id="json-ascii"),
        pytest.param(json.dumps(TOKEN, ensure_ascii=False)[1:-1], id="json-utf8"),
        pytest.param(quote(TOKEN), id="url-path"),
        pytest.param(quote(TOKEN, safe=""), id="url-all"),
        pytest.param(quote(TOKEN, safe="!'()*"), id="url-component"),
        pytest.param(quote_plus(TOKEN), id="url-plus"),
        pytest.param(
            "p%c3%a4+ss%22w%2ford~%2b%3f%3e%5c%e2%82%ac%f0%9f%98%80%287%29%21",
            id="url-lower",
        ),
        pytest.param(TOKEN.encode().hex(), id="hex-lower"),
        pytest.param(TOKEN.encode().hex().upper(), id="hex-upper"),
    ],
)
def test_an_encoded_secret_is_masked_whole_wherever_the_stream_is_cut(form):
    assert in_two(Redactor([("TOKEN", TOKEN.encode())]), f"<{form}>\n".encode()) == {b"<[secret TOKEN]>\n"}


@pytest.mark.parametrize(
    ("encode", "before", "after", "expected"),
    [
        pytest.param(base64.b64encode, b"", b"", b"[secret TOKEN]==", id="standard-alone"),
        pytest.param(base64.b64encode, b"use", b":", b"dXNl[secret TOKEN]zo=", id="standard-0"),
        pytest.param(base64.b64encode, b"u", b"v", b"df[secret TOKEN]d2", id="standard-1"),
        pytest.param(base64.b64encode, b"us", b":", b"dXP[secret TOKEN]Og==", id="standard-2"),
        pytest.param(base64.urlsafe_b64encode, b"", b"", b"[secret TOKEN]==", id="urlsafe-alone"),
        pytest.param(base64.urlsafe_b64encode, b"use", b":", b"dXNl[secret TOKEN]zo=", id="urlsafe-0"),
        pytest.param(base64.urlsafe_b64encode, b"u", b"v", b"df[secret TOKEN]d2", id="urlsafe-1"),
        pytest.param(base64.urlsafe_b64encode, b"us", b":", b"dXP[secret TOKEN]Og==", id="urlsafe-2"),
    ],
)
def test_base64_is_masked_but_for_the_characters_that_tell_its_neighbours_too(encode, before, after, expected):
    secret = b"\xfb\xff>>~~??\xff\xe7"
    text = encode(before + secret + after)
    assert in_two(Redactor([("TOKEN", secret)]), b"<" + text + b">") == {b"<" + expected + b">"}


def test_each_line_of_a_secret_is_masked_and_what_is_under_six_bytes_is_not():
    redactor = Redactor([("KEY", KEY.encode())])
    text = b"1 MIIEvQIBADAN\nab\n  Bgkqhkiu9w0BAQEF\r\n-----END KEY-----"
    assert in_two(redactor, text) == {b"1 [secret KEY]\nab\n  [secret KEY]\r\n[secret KEY]"}


def test_a_secret_of_lines_is_one_gap():
    assert in_two(Redactor([("KEY", KEY.encode())]), f"<{KEY}>".encode()) == {b"<[secret KEY]>"}


def test_a_line_of_a_secret_is_masked_in_each_encoding():
    line = "Bgkqhkiu9w0BAQEF"
    text = f"{base64.b64encode(line.encode()).decode()} {line.encode().hex()} {quote(line)} {json.dumps(line)}"
    assert Redactor([("K", KEY.encode())]).once(text.encode()) == b'[secret K]== [secret K] [secret K] "[secret K]"'


def test_the_newline_at_the_end_of_a_secret_file_hides_nothing():
    redactor = Redactor([("TOKEN", b"hunter22\n")])
    without, within = b"hunter22", b"hunter22\n"
    text = b" ".join([without, base64.b64encode(without), base64.b64encode(within), without.hex().encode(), within])
    assert redactor.once(text) == b" ".join([b"[secret TOKEN]", b"[secret TOKEN]=", *[b"[secret TOKEN]"] * 3])


@pytest.mark.parametrize("width", [64, 76])
def test_base64_in_lines_is_masked_when_it_begins_with_the_secret(width):
    secret = bytes(range(33, 127)) * 2
    encoded = base64.b64encode(secret)
    text = b"\n".join(encoded[i : i + width] for i in range(0, len(encoded), width))
    masked = in_two(Redactor([("KEY", secret)]), text)
    assert masked == {b"[secret KEY]\n[secret KEY]\n[secret KEY]\n[secret KEY]="}


# --- where secrets meet -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"<swordfish>", b"<[secret SHORT]>", id="one"),
        pytest.param(b"<swordfish-and-chips>", b"<[secret LONG]>", id="the-longer-where-both-begin"),
        pytest.param(b"<swordfish-and>", b"<[secret SHORT]-and>", id="the-shorter-where-the-longer-breaks-off"),
        pytest.param(b"<swordfishswordfish>", b"<[secret SHORT][secret SHORT]>", id="side-by-side"),
        pytest.param(b"<swordfish-and-chips-or-peas>", b"<[secret LONG][secret NEXT]>", id="an-overlap-leaves-no-end"),
        pytest.param(b"<abababababababa>", b"<[secret SELF]>", id="an-overlap-with-itself-is-one-gap"),
        pytest.param(b"<my-swordfish-and-tea>", b"<[secret OUTER]-and-tea>", id="what-is-within-another-is-not-told"),
        pytest.param(b"swordfis", b"swordfis", id="a-part-passes-at-the-end"),
    ],
)
def test_all_bytes_of_all_occurrences_are_masked(text, expected):
    secrets = [
        ("SHORT", b"swordfish"),
        ("LONG", b"swordfish-and-chips"),
        ("NEXT", b"chips-or-peas"),
        ("SELF", b"abababa"),
        ("OUTER", b"my-swordfish"),
    ]
    assert in_two(Redactor(secrets), text) == {expected}


# --- the stream ---------------------------------------------------------------------------------------------------


def test_only_what_may_become_a_secret_is_held_back():
    redactor = Redactor([("TOKEN", b"swordfish"), ("KEY", KEY.encode())])
    chunks = [b"progress 10 %", b" swo", b"rd", b"s\n", b"swordfish", b"\n", b"---"]
    assert [redactor.feed(chunk) for chunk in chunks] == [
        b"progress 10 %", b" ", b"", b"swords\n", b"[secret TOKEN]", b"\n", b"",
    ]  # fmt: skip
    assert redactor.flush() == b"---"


def test_a_whole_value_does_not_disturb_the_stream():
    redactor = Redactor([("TOKEN", b"swordfish")])
    assert [redactor.feed(b"a sword"), redactor.once(b"a swordfish"), redactor.feed(b"fish"), redactor.flush()] == [
        b"a ", b"a [secret TOKEN]", b"[secret TOKEN]", b"",
    ]  # fmt: skip


def test_without_secrets_a_chunk_is_returned_as_it_came():
    redactor, chunk = Redactor([]), b"swordfish"
    assert redactor.feed(chunk) is chunk
    assert (redactor.flush(), redactor.once(chunk)) == (b"", chunk)


@pytest.mark.parametrize("value", [b"", b"12345", b"12345\n", b" \n \n \n \n"])
def test_a_short_value_is_refused_by_its_name(value):
    with pytest.raises(ValueError, match=r"^secret `PIN` is shorter than 6 bytes, too short to be masked in logs$"):
        Redactor([("PIN", value)])


# --- properties ---------------------------------------------------------------------------------------------------

# Few letters, so that secrets meet and begin often; none of them is in a mask.
values = st.text('XYZ\n%+é😀"', min_size=6, max_size=14).map(str.encode).filter(lambda v: len(v.strip()) >= 6)
secrets = st.lists(values, min_size=1, max_size=3).map(lambda found: [(str(n), value) for n, value in enumerate(found)])
FORMS = [
    bytes,
    lambda value: json.dumps(value.decode())[1:-1].encode(),
    lambda value: json.dumps(value.decode(), ensure_ascii=False)[1:-1].encode(),
    lambda value: quote(value).encode(),
    lambda value: quote_plus(value).encode(),
    lambda value: base64.b64encode(value).rstrip(b"="),
    lambda value: base64.urlsafe_b64encode(value).rstrip(b"="),
    lambda value: value.hex().encode(),
]


@st.composite
def leaks(draw):
    """Secrets, and a text of whole and broken forms of them."""
    found = draw(secrets)
    forms = [form(value) for form in FORMS for _, value in found]
    whole = st.sampled_from(forms)
    broken = whole.flatmap(lambda form: st.integers(0, len(form)).map(lambda size: form[:size]))
    text = b"".join(draw(st.lists(st.one_of(whole, broken, st.binary(max_size=3)), max_size=8)))
    return found, forms, text


@given(leaks(), st.lists(st.integers(0, 200), max_size=12))
def test_no_cut_of_the_stream_changes_the_result(leak, cuts):
    found, _, text = leak
    redactor = Redactor(found)
    assert in_chunks(redactor, text, cuts) == redactor.once(text) == in_chunks(redactor, text, range(len(text)))


@given(leaks())
def test_no_form_of_a_secret_survives(leak):
    found, forms, text = leak
    masked = Redactor(found).once(text)
    assert [form for form in forms if form in masked] == []


@given(leaks())
def test_exactly_the_bytes_of_occurrences_are_masked(leak):
    found, _, text = leak
    known = {pattern for _, value in found for pattern in patterns(value)}
    covered = {
        place
        for pattern in known
        for start in range(len(text))
        if text.startswith(pattern, start)
        for place in range(start, start + len(pattern))
    }
    left = bytes(byte for place, byte in enumerate(text) if place not in covered)
    assert re.sub(rb"\[secret \d\]", b"", Redactor(found).once(text)) == left


def test_a_long_log_is_hardly_slower():
    redactor = Redactor([("TOKEN", b"zQ8-swordfish_77"), ("KEY", KEY.encode())])
    chunk = b"2024-05-17 12:07:33,120 INFO step_7: read 1203 rows of /data/in/part-0007.csv, loss=0.124578\n" * 700
    started = time.process_time()
    for _ in range(256):
        redactor.feed(chunk)
    assert time.process_time() - started < 1  # for 17 MB, which is slow; a tenth of it is usual
