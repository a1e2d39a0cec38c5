"""Text that anybody may have chosen, made fit for terminals and logs."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd.text import middle, printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"/run/ctrdl", "/run/ctrdl"),
        ("/ä/日本".encode(), "/ä/日本"),
        (b"/a b", "/a b"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        (b"one\ntwo", r"one\ntwo"),
        (b"one\rtwo", r"one\rtwo"),
        (b"\x9b31m", r"\x9b31m"),  # the one-byte form of ESC [, and not UTF-8
        ("\x9b31m".encode(), r"\x9b31m"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("\u202egnp.exe".encode(), r"\u202egnp.exe"),  # right-to-left override
        ("\u2028".encode(), r"\u2028"),  # splitlines() would make two lines of it
    ],
)
def test_what_could_steer_a_terminal_is_escaped(raw: bytes, shown: str) -> None:
    assert printable(os.fsdecode(raw)) == shown


@given(st.binary())
def test_whatever_a_path_holds_is_one_printable_line(raw: bytes) -> None:
    text = printable(os.fsdecode(raw))
    assert text.isprintable()
    text.encode("utf-8")  # no lone surrogate, which print() would choke on


@given(st.text("abc/", max_size=40), st.integers(min_value=1, max_value=50))
def test_a_shortened_text_keeps_its_ends_and_its_width(text: str, width: int) -> None:
    short = middle(text, width)
    if len(text) <= width:
        assert short == text
        return
    assert len(short) == width
    left, mark, right = short.partition("…")
    assert mark == "…"
    assert text.startswith(left)
    assert text.endswith(right)
