"""Text from anybody: mount options, what holds them, and configurations; never more than a refusal.

A generator of this file's own, not hypothesis: it makes a hundred times as many cases a second, and
ten million are wanted. A case that fails is printed, with the seed that leads to it.
"""

import random
import time
from collections.abc import Callable

import pytest

from ovl_linkd import config
from ovl_linkd.config import yaml_tree
from ovl_linkd.formats.judging import Means
from ovl_linkd.formats.table import FORMATS
from ovl_linkd.overlay.limits import Limits, of_this_kernel
from ovl_linkd.overlay.options import Malformed, parse
from ovl_linkd.overlay.prefixes import Tables
from ovl_linkd.overlay.shorten import Prefix, expand, layers_to_lease, plan
from tests import kernel_grammar
from tests.situations import resolved
from tests.soak import SOAK

SEED = 20261124

LIMITS = of_this_kernel(4096)
TINY = Limits(mount=60, fsconfig=20, layers=5, mountinfo=65_000)
LINKS = [
    Prefix("one", b"/a", b"/s"),
    Prefix("two", b"/a/b", b"/s2"),
    Prefix("odd", b"/c:d,e\\f", b"/s3"),
]
FARM = [Prefix("farm", b"/x/1", b"/f/a"), Prefix("farm", b"/x/2", b"/f/b")]

_OPTIONS = (
    b"lowerdir=", b"lowerdir+=", b"datadir+=", b"upperdir=", b"workdir=", b"index=off", b"rw",
    b'context="a:b,c"', b"volatile", b"userxattr", b"/a", b"/a/b", b"/c\\:d\\,e\\\\f", b"/x/1",
    b"/1/fs", b"..", b"//", b":", b"::", b",", b"=", b"\\", b'"', b"'", b" ", b"\0", b"\n", b"\t",
    b"\xff", b"\xc3\xa4", b"/" * 300, b":/a/1" * 60,
)  # fmt: skip
_LINES = (
    b"mount ", b"-t overlay ", b"overlay ", b"-o ", b"--options=", b"/mnt ", b"sudo ", b"$x", b"`",
    b"|", b"&&", b";", b"#", b"(", b"<<E", b"LIBMOUNT_FORCE_MOUNT2=always ", b"\\\n", b"defaults",
    b"[Mount]\n", b"Type=overlay\n", b"Options=", b"What=overlay\n", b"%", b"\\x2c", b"\\040",
    b'{"mounts":[{"type":"overlay","options":["', b'"]}]}', b'","', b"\\u002f", b"[", b"]", b"{",
    b"36 35 98:0 / /mnt rw - overlay overlay rw,",
)  # fmt: skip
_CONFIG = (
    b"links:", b"\n  one:", b"\n    path: ", b"\n    target: ", b"/run/x", b"/t", b"farm: ",
    b"resync-interval: ", b"1h", b"control-socket: ", b"{", b"}", b"[", b"]", b"&a ", b"*a",
    b"<<: ", b"!!binary ", b"null", b"true", b"0x1f", b"'", b'"', b"\n", b"\t", b"- ", b"? ",
    b"|\n", b"#", b"---\n", b"\xff", b"\0", b"\xe2\x80\xa8", b"..", b"a" * 300,
)  # fmt: skip


def _text(chance: random.Random, words: tuple[bytes, ...]) -> bytes:
    return b"".join(chance.choices(words, k=chance.randrange(1, 16)))


def options(chance: random.Random) -> bytes:
    """Parse, plan, and undo it."""
    text = _text(chance, _OPTIONS)
    try:
        parsed = parse(text)
    except Malformed:
        return text
    assert parsed.format() == text
    for limits in (LIMITS, TINY):
        made = plan(parsed, _TABLES, limits, farm=FARM)
        assert len(made.options) <= limits.mount
        assert made.fits == bool(made.options or not text)
        if made.fits and b"/s" not in text and b"/f" not in text:
            assert expand(made.options, [*LINKS, *FARM]) == text
            if b'"' not in text:
                before = kernel_grammar.read(text)
                assert resolved(made.options, [*LINKS, *FARM]) == before
    layers_to_lease(parsed, _TABLES)
    return text


_TABLES = Tables(LINKS)


def formats(chance: random.Random) -> bytes:
    """Rewrite and expand in each format."""
    text = _text(chance, _OPTIONS + _LINES)
    for each in FORMATS.values():
        try:
            if each.shortened:
                made = each.module.rewrite(text, Means(LINKS, LIMITS))
                assert all(len(one.options) <= LIMITS.mount for one in made.plans)
                list(each.module.mounts(text)) if not each.durable else None
            each.module.expand(text, LINKS)
        except Malformed:
            continue
    return text


def configurations(chance: random.Random) -> bytes:
    """Read YAML, and say all that is wrong."""
    text = _text(chance, _CONFIG)
    try:
        tree, _ = yaml_tree.parse(text, "/etc/x.yaml")
    except yaml_tree.UnreadableError:
        return text
    if tree is not None:
        config._checked([tree], _SCHEMA)
    return text


_SCHEMA = config._schema()

#: what is tried, and how often: in `make test`, and in `make soak`
TIMES: dict[Callable[[random.Random], bytes], tuple[int, int]] = {
    options: (15_000, 9_000_000),
    formats: (2_000, 1_000_000),
    configurations: (300, 100_000),
}


@pytest.mark.parametrize("attempt", TIMES, ids=lambda attempt: attempt.__name__)
def test_no_text_gets_more_than_a_refusal(attempt: Callable[[random.Random], bytes]) -> None:
    times, began = TIMES[attempt][SOAK], time.monotonic()
    chance = random.Random(SEED)
    for number in range(times):
        try:
            attempt(chance)
        except Exception as error:
            raise AssertionError(f"case {number} of {attempt.__name__}, seed {SEED}") from error
    print(f"{attempt.__name__}: {times:,} cases in {time.monotonic() - began:.0f} s")
