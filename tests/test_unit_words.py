"""Words of unit files: whatever a path holds, systemd reads that path again."""

import os

import pytest

from ovl_linkd.formats import unit


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/run/a-b_c.d:e,f=@+/1", "/run/a-b_c.d:e,f=@+/1"),
        ("/a b", '"/a b"'),
        ('/a"b\\c', '"/a\\"b\\\\c"'),
        ("/100%/$HOME", '"/100%%/$$HOME"'),
        ("/é", '"/é"'),
        ("/a\nb", '"/a\\x0ab"'),
        (os.fsdecode(b"/\xff"), '"/\\xff"'),
        ("", '""'),
    ],
)
def test_an_argument_of_a_command_line(text: str, word: str) -> None:
    assert unit.argument(text) == word


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/run/a-b_c.d:e,f=@+/1", "/run/a-b_c.d:e,f=@+/1"),
        ("/a b", '"/a b"'),
        ('/a"b\\c', '"/a\\"b\\\\c"'),
        ("/100%/$HOME", '"/100%%/$HOME"'),
        ("/é", '"/é"'),
        ("/a\nb", None),
        (os.fsdecode(b"/\xff"), None),
    ],
)
def test_one_of_a_list_of_paths_where_no_escape_is_known(text: str, word: str | None) -> None:
    assert unit.path(text) == word
