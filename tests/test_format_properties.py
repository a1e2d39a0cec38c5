"""What must hold for every format, whatever it holds: paths change, and nothing else does."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ovl_linkd.formats.judging import BY_VALUE, HELPER, MOUNT2, Means
from ovl_linkd.formats.table import FORMATS
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.options import Malformed, parse
from ovl_linkd.overlay.prefixes import Prefix
from ovl_linkd.overlay.shorten import shortened
from tests.situations import in_shell, names_a_short_path, situations

LIMITS = of_this_kernel(4096)
#: formats that have each option in a string of its own
IN_STRINGS = ("oci", "containerd")
# Of each test there is one for each format.
FEWER = settings(max_examples=min(1000, settings().max_examples // 3))


class Form(NamedTuple):
    """How a format spells options, between a text before and one after them."""

    before: bytes
    spell: Callable[[bytes], bytes]
    after: bytes


def in_fstab(options: bytes) -> bytes:
    return re.sub(rb"[ \t\n\\]", lambda match: b"\\%03o" % match.group()[0], options)


def in_unit(options: bytes) -> bytes:
    return options.replace(b"\\\\", b"\\\\\\\\").replace(b"%", b"%%")


def in_json(options: bytes) -> bytes:
    """As the strings that a runtime joins with commas."""
    return json.dumps([part.decode() for part in parse(options).parts])[1:-1].encode()


FORMS = {
    "raw": Form(b"", lambda options: options, b"\n"),
    "mount": Form(
        b"# a\nmount -t overlay o -o ", lambda options: in_shell(options, "'"), b" /t # b\n"
    ),
    "fstab": Form(b"# a\n\no\t/t  overlay ", in_fstab, b"\t0 0\n/dev/x /y ext4 lowerdir=/a 0 1"),
    "unit": Form(b"[Mount]\n# a\nType=overlay\nOptions = ", in_unit, b"\n[Install]\nOptions=x\n"),
    "oci": Form(
        b'{"mounts":\n[{"type": "overlay", "options": ["ro", ',
        in_json,
        b'], "x": 1.0}, {"type": "bind", "options": ["lowerdir=/a"]}]}\n',
    ),
    "containerd": Form(b'[{"type": "overlay", "options": [', in_json, b"]}]"),
}


def test_every_format_is_tried_here() -> None:
    assert FORMS.keys() == {name for name, form in FORMATS.items() if form.shortened}


def is_held(name: str, options: bytes) -> bool:
    """Whether the format NAME can hold OPTIONS at all."""
    if FORMATS[name].by_mount8 and options.count(b'"') % 2:
        return False
    if name == "unit":
        return options == options.strip() and b"\n" not in options and is_text(options)
    return name not in IN_STRINGS or is_text(options)


def is_text(options: bytes) -> bool:
    try:
        return bool(options.decode())
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize("name", FORMS)
@FEWER
@given(situation=situations(), way=st.sampled_from([MOUNT2, BY_VALUE, HELPER]))
def test_it_says_what_was_planned_and_all_else_stays(
    name: str, situation: tuple[bytes, list[Prefix]], way: str
) -> None:
    options, links = situation
    assume(options and not names_a_short_path(options, links))
    # A flag among strings is no option.
    assume(name not in IN_STRINGS or b"rw" not in parse(options).parts)
    links = [link for link in links if name not in ("unit", *IN_STRINGS) or is_text(link.short)]
    before, spell, after = FORMS[name]
    wanted = shortened(parse(options), links).format()
    assume(is_held(name, options) and is_held(name, wanted))
    text = before + spell(options) + after
    try:
        made = FORMATS[name].module.rewrite(text, Means(links, LIMITS, way=way))
    except Malformed as error:
        # A comma that is escaped by the end of one option is one path in two strings.
        assert name in IN_STRINGS
        assert "a backslash at the end" in error.what
        return
    assert made.plans[0].options == wanted
    forced = b"LIBMOUNT_FORCE_MOUNT2=always"
    if name != "mount":  # where the whole word may be quoted anew
        unforced = made.text.replace(b"Environment=" + forced + b"\n", b"")
        assert unforced == before + spell(wanted) + after
    if forced not in made.text:
        assert FORMATS[name].module.expand(made.text, links) == text


@pytest.mark.parametrize("name", FORMS)
@FEWER
@given(situation=situations())
def test_what_names_no_link_passes_byte_for_byte(
    name: str, situation: tuple[bytes, list[Prefix]]
) -> None:
    options, _ = situation
    assume(options and is_held(name, options))
    text = FORMS[name].before + FORMS[name].spell(options) + FORMS[name].after
    module = FORMATS[name].module
    assert module.rewrite(text, Means([], LIMITS)).text == module.expand(text, []) == text


TOKENS = [
    *(b"lowerdir=", b"/a", b":", b"::", b",", b"\\", b" ", b"\t", b"\n", b'"', b"'", b"[", b"]"),
    *(b"{", b"}", b"overlay", b"mount -t ", b"-o", b"Options=", b"[Mount]", b"Type=overlay\n"),
    *(b"%", b"%%", b"\\040", b"\\u00e9", b"\\ud83d", b"\xff", b"\xc3", b"\0", b"#", b";", b"="),
    *(
        b'"type":"overlay"',
        b'"options":',
        b'"mounts":',
        b"null",
        b"1",
        b"0 0",
        b"\r\n",
        b"\xef\xbb\xbf",
    ),
]


@pytest.mark.parametrize("name", FORMS)
@FEWER
@given(
    text=st.binary(max_size=50) | st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join),
    at=st.integers(0, 200),
    size=st.integers(0, 20),
)
@example(text=b"", at=0, size=200)
def test_whatever_the_bytes_nothing_but_malformed_is_raised(
    name: str, text: bytes, at: int, size: int
) -> None:
    """Alone, and in place of a part of what was well: a half-written file looks like that."""
    links = [Prefix("a", b"/a", b"/s"), Prefix("b", b"/b\xff\n%", b"/t")]
    whole = FORMS[name].before + FORMS[name].spell(b"lowerdir=/a/1:/t/2") + FORMS[name].after
    for each in (text, whole[:at] + text + whole[at + size :]):
        module = FORMATS[name].module
        for call in (
            partial(module.rewrite, each, Means(links, LIMITS)),
            partial(module.expand, each, links),
        ):
            try:
                call()
            except Malformed as error:
                assert error.what
                assert error.hint
                assert "\n" not in error.what
