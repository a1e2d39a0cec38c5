"""JSON as it stands in a text: read as Python reads it, and every place right."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovl_linkd.formats import json_text
from ovl_linkd.formats.json_text import ARRAY, OBJECT, STRING, Value
from ovl_linkd.overlay.options import Malformed

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(), some, max_size=4),
    max_leaves=12,
)


def as_python(value: Value) -> Any:
    if value.kind == OBJECT:
        keys = [as_python(key) for key in value.items[::2]]
        return dict(zip(keys, map(as_python, value.items[1::2]), strict=True))
    if value.kind == ARRAY:
        return [as_python(item) for item in value.items]
    if value.kind == STRING:
        return value.string().value.decode()
    return json.loads(value.raw)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_what_python_writes_is_read(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair
    try:
        assert as_python(json_text.read(encoded)) == value
    except Malformed as error:
        assert "not UTF-8" in error.what
        assert "\\ud" in text


@given(st.binary(max_size=60) | st.text('[]{}",:\\u0d8 tfnE-1e.', max_size=40).map(str.encode))
@example(b'{"a":1,}')
@example(b"[1 2]")
@example(b"\xef\xbb\xbf{}")
@example(b"01")
def test_any_bytes_are_read_as_python_reads_them_or_refused(text: bytes) -> None:
    try:
        wanted = json.loads(text.decode(), parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(Malformed) as caught:
            # A string that is no UTF-8 is seen only when it is looked at.
            as_python(json_text.read(text))
        assert caught.value.what.startswith("line ")
        assert caught.value.hint
        return
    try:
        assert as_python(json_text.read(text)) == wanted
    except Malformed as error:
        assert "not UTF-8" in error.what


@given(st.text(), st.booleans())
def test_each_byte_of_a_string_has_its_place(value: str, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        spelt = json_text.read(text.encode()).string()
    except (Malformed, UnicodeEncodeError):
        return
    assert len(spelt.starts) == len(spelt.value) + 1
    assert json_text.spell(spelt.value).decode() == json.dumps(value, ensure_ascii=False)[1:-1] or (
        json.loads(b'"%b"' % json_text.spell(spelt.value)) == value
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "line 1, column 1: no value"),
        (b'{"a": [1, 2', "line 1, column 12: a list that is never closed"),
        (b'{"a": 1\n', "line 2, column 1: an object that is never closed"),
        (b'{\n "a" 1}', "line 2, column 6: no colon"),
        (b'{\n  "a": "b\n', "line 2, column 8: a string that is never closed"),
        (b'["\\x"]', "line 1, column 2: a string"),
        # An expression that tries each way to part the letters is not done in a thousand years.
        (b'{"a": "' + b"b" * 5_000, "line 1, column 7: a string that is never closed"),
        (b"{} {}", "line 1, column 4: something follows"),
        (b"[" * 100_000, "nested too deeply"),
        (b"NaN", "no value"),
    ],
)
def test_what_is_no_json_is_refused_with_line_and_column(text: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says) as caught:
        json_text.read(text)
    assert caught.value.hint


def test_a_key_is_found_whatever_its_case_but_only_once() -> None:
    """As Go does: runc takes "Mounts" as well, and of two the last."""
    value = json_text.read(b'{"Mounts": 1, "b": null}')
    assert value.get("mounts") is not None
    assert value.get("b") is None
    for text in (b'{"a": 1, "a": 2}', b'{"a": 1, "A": 2}', b'{"a": 1, "\\u0061": 2}'):
        with pytest.raises(Malformed, match="a is there twice"):
            json_text.read(text).get("a")


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xff\\n"'])
def test_a_string_that_says_no_characters_is_ambiguous(text: bytes) -> None:
    """Half a surrogate pair becomes U+FFFD in Go, and an error elsewhere."""
    value = json_text.read(b"\n [%b]" % text).items[0]
    with pytest.raises(json_text.Ambiguous, match=r"^line 2, column 3: a string that is not UTF-8"):
        value.string()


def test_of_a_key_that_is_there_twice_the_second_is_shown() -> None:
    with pytest.raises(json_text.Ambiguous, match=r"^line 1, column 15: a is there twice"):
        json_text.read(b'{"a": 1, "A": 2}').get("a")
