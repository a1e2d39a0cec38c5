"""The option grammar: nothing is lost, and what no kernel takes is said at once."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.options import MAX_TEXT, Malformed, layers_of, parse
from tests import kernel_grammar
from tests.bounds import within

# Dense in the bytes that mean something, so that most examples hold an escape or an empty part.
PIECES = st.sampled_from(
    [b",", b":", b"\\", b'"', b"=", b"/", b"a", b"\xff", b"lowerdir=", b"lowerdir+=", b"upperdir=",
     b"context=", b"smackfsroot=", b" ", b"\n"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=30).map(b"".join)


@given(TEXTS)
@example(b"")
@example(b",,rw,,")
@example(b'context="system_u:object_r:t:s0:c1,c2",lowerdir=/a')
@example(b"lowerdir=/a\\:b:/c\\,d\\\\")
def test_what_is_parsed_is_formatted_again_byte_for_byte(text: bytes) -> None:
    try:
        options = parse(text)
    except Malformed:
        return
    assert options.format() == text


@given(TEXTS)
def test_options_are_split_where_the_kernel_splits_them(text: bytes) -> None:
    """Without LSM options and quotes, ovl_next_opt's rule is all there is."""
    if b"context=" in text or b"smackfs" in text:
        return
    try:
        options = parse(text)
    except Malformed:
        return
    assert list(options.parts) == kernel_grammar.split_at(text, ord(","))
    assert options.layers == len([each for each in kernel_grammar.read(text).lower if each])


@pytest.mark.parametrize("name", ["context", "fscontext", "defcontext", "rootcontext"])
def test_commas_in_a_quoted_security_context_separate_nothing(name: str) -> None:
    """MCS categories are separated by commas; a split there would make `c2"` an option."""
    context = f'{name}="system_u:object_r:container_file_t:s0:c1,c2"'.encode()
    options = parse(b"index=off," + context + b",lowerdir=/a:/b")
    assert options.parts == (b"index=off", context, b"lowerdir=/a:/b")
    assert options.layers == 2


def test_a_backslash_in_a_quoted_context_escapes_nothing() -> None:
    """SELinux takes its options out first and knows only quotes."""
    options = parse(b'context="a\\",lowerdir=/a')
    assert options.parts == (b'context="a\\"', b"lowerdir=/a")


def test_a_quote_in_any_other_option_is_a_letter() -> None:
    assert parse(b'lowerdir=/a"b,upperdir=/c"d').parts == (b'lowerdir=/a"b', b'upperdir=/c"d')


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        (b"rw", 0),
        (b"lowerdir", 0),
        (b"lowerdir=/a", 1),
        (b"lowerdir=/a:/b:/c", 3),
        (b"lowerdir=/a\\:/b:/c", 2),
        (b"lowerdir=/a::/d1::/d2", 3),
        (b"lowerdir=/a:/b::/d1", 3),
        (b"lowerdir+=/a,lowerdir+=/b,datadir+=/c", 3),
        (b"lowerdir=/a:/b:/c,lowerdir=/d", 1),
        (b"lowerdir=,lowerdir+=/a", 1),
        (b"lowerdir+=/a:b", 1),
        (b"lowerdir=/a:/b\\:", 2),
        (b"lowerdir+=/\xff+=", 1),
        (b"xlowerdir=/a:/b", 0),
    ],
)
def test_layers_are_counted_as_the_kernel_does(text: bytes, layers: int) -> None:
    assert parse(text).layers == layers


def test_the_last_of_several_lowerdirs_counts_and_all_are_kept() -> None:
    options = parse(b"lowerdir=/a:/b,rw,lowerdir=/c")
    assert options.layers == 1
    assert list(options.items()) == [
        (b"lowerdir", b"/a:/b"),
        (b"rw", None),
        (b"lowerdir", b"/c"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"lowerdir=/a,upperdir=/b\\", "lone backslash"),
        (b"\\", "lone backslash"),
        (b"lowerdir=:/a", "start"),
        (b"lowerdir=/a:", "end"),
        (b"lowerdir=/a::", "end"),
        (b"lowerdir=/a:::/b", "3 colons"),
        (b"lowerdir=/a:/b\\\\:", "end"),
        (b"lowerdir=/a::/d:/b", "data-only"),
        (b"lowerdir=,upperdir=/b", "empty"),
        (b"lowerdir+=,lowerdir+=/a", "empty layer"),
        (b"lowerdir+=/a,datadir+=", "empty layer"),
        (b"lowerdir=/a\0/b", "NUL byte at offset 11"),
    ],
)
def test_what_no_kernel_takes_is_named(text: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says) as caught:
        parse(text)
    assert caught.value.what == str(caught.value)
    assert caught.value.hint


def test_ten_megabytes_are_refused_without_being_read_through() -> None:
    """Whoever had looked inside would complain of the NUL byte or the lone backslash."""
    text = b"lowerdir=\0" + b"/a\\:" * 2_500_000 + b"\\"
    with pytest.raises(Malformed, match="10,000,011 bytes") as caught:
        parse(text)
    assert "at most 1,048,576 bytes" in caught.value.hint
    assert parse(b"x" * MAX_TEXT).format() == b"x" * MAX_TEXT
    with pytest.raises(Malformed):
        parse(b"x" * (MAX_TEXT + 1))


@pytest.mark.parametrize("piece", [b"\\,", b"\\:", b'",', b"::", b",", b"context=", b'context=",'])
def test_the_longest_text_that_is_looked_at_comes_to_an_end(piece: bytes) -> None:
    """A pattern that backtracks would take hours on a text like these."""
    text = (b"lowerdir=" + piece * MAX_TEXT)[:MAX_TEXT]
    with within(60), contextlib.suppress(Malformed):
        assert parse(text).format() == text


def test_layers_keep_their_escapes() -> None:
    assert layers_of(b"/a\\:b:/c::/d\\\\") == [b"/a\\:b", b"/c", b"/d\\\\"]


@pytest.mark.parametrize(("page", "bytes_"), [(4096, 4095), (16384, 16383), (65536, 65535)])
def test_mount2_takes_a_page_less_one_byte(page: int, bytes_: int) -> None:
    assert of_this_kernel(page).mount == bytes_
    assert of_this_kernel(page)[1:] == (255, 500, 65_000)
