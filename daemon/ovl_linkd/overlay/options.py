"""The options of an overlay mount as the kernel reads them: bytes, split without losing any.

Sources: fs/overlayfs/params.c (ovl_next_opt, ovl_parse_param_split_lowerdirs, ovl_unescape),
fs/fs_context.c (vfs_parse_monolithic_sep), security/selinux/hooks.c (selinux_sb_eat_lsm_opts).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# Longer than anything that can be mounted (pages end at 64 KiB), short enough to judge at once.
MAX_TEXT = 1 << 20

# How a path is spelt in an option's value.
LIST = 0  # separated by colons; each is unescaped
PATH = 1  # one path, unescaped
RAW = 2  # one path, taken as it stands

SPELLING = {
    b"lowerdir": LIST,
    b"upperdir": PATH,
    b"workdir": PATH,
    b"lowerdir+": RAW,
    b"datadir+": RAW,
}

# Of these, what names lower layers.
LOWER = frozenset((b"lowerdir", b"lowerdir+", b"datadir+"))

LSM = (
    *(b"context=", b"fscontext=", b"defcontext=", b"rootcontext="),
    *(b"smackfsdef=", b"smackfsdefault=", b"smackfsfloor=", b"smackfshat="),
    *(b"smackfsroot=", b"smackfstransmute="),
)
_OPTION = re.compile(rb"(?:[^\\,]+|\\.)*", re.DOTALL)
# SELinux takes its options out before the overlay splits: quotes hide commas, backslashes nothing.
_LSM_OPTION = re.compile(rb'(?:[^",]+|"[^"]*(?:"|\Z))*')
_LAYER = re.compile(rb"(?:[^\\:]+|\\.)+", re.DOTALL)
_LAYER_OR_COLONS = re.compile(rb"(?:[^\\:]+|\\.)+|:+", re.DOTALL)


class Malformed(ValueError):
    """Options that mean nothing whatever lies on disk: ``what`` is wrong, ``hint`` helps."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class Options(NamedTuple):
    """The options of one overlay mount.

    ``parts``: each option as it stands, without the commas between; empty ones are kept.
    ``layers``: how many lower layers the kernel will count, data layers included. ``split``: the
    last ``lowerdir=``, the very object that stands in ``parts``, and its layers, where no more than
    a colon divides them and nothing is escaped: a good part of all the work, done once.
    """

    parts: tuple[bytes, ...]
    layers: int
    split: tuple[bytes, list[bytes]] | None = None

    def format(self) -> bytes:
        """Return the text that was parsed, byte for byte."""
        return b",".join(self.parts)

    def items(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield each option's name and value; the value of one without ``=`` is None."""
        for part in self.parts:
            name, equals, value = part.partition(b"=")
            yield name, value if equals else None

    def listed(self, part: bytes) -> list[bytes] | None:
        """The layers of PART, if it is what was split."""
        return self.split[1] if self.split and self.split[0] is part else None


def parse(text: bytes) -> Options:
    """Split TEXT, the options of one overlay mount, as mount(2) takes them.

    ``parse(text).format() == text`` always. What is not understood stays as it is. Raises
    Malformed where no kernel would take them, and for a lone backslash at the end, which kernels
    pass over: what it was to escape is lost. The number of layers and the length of the text are
    for plan() to judge.
    """
    if len(text) > MAX_TEXT:
        raise Malformed(
            f"{len(text):,} bytes of options, more than any kernel takes",
            f"at most {MAX_TEXT:,} bytes are looked at; is this the right file?",
        )
    if b"\0" in text:
        where = text.index(b"\0")
        raise Malformed(f"a NUL byte at offset {where:,}", "options are text that ends at a NUL")
    plain = b"\\" not in text and b'"' not in text
    return _counted(tuple(_split_plain(text) if plain else _split(text)))


def layers_of(value: bytes) -> list[bytes]:
    """Return the layers in the value of a ``lowerdir=``, first on top, escapes kept."""
    return _LAYER.findall(value)


def layers_and_colons(value: bytes) -> list[bytes]:
    """Return the layers in VALUE and the runs of colons between them: joined they are VALUE."""
    return _LAYER_OR_COLONS.findall(value)


def _split_plain(text: bytes) -> Iterator[bytes]:
    """What text.split(b",") gives, in a fraction of the time where commas are far between."""
    start = 0
    while (end := text.find(b",", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _split(text: bytes) -> Iterator[bytes]:
    start = 0
    while True:
        match = (_LSM_OPTION if text.startswith(LSM, start) else _OPTION).match(text, start)
        end = match.end() if match else start
        yield text[start:end]
        if end == len(text):
            return
        if text[end] != 0x2C:
            raise Malformed(
                "a lone backslash at the end",
                r"a backslash escapes the byte after it; one backslash is spelt \\",
            )
        start = end + 1


def _counted(parts: tuple[bytes, ...]) -> Options:
    """Count as the kernel does: the last ``lowerdir=`` wins, each ``lowerdir+=`` adds one."""
    layers = 0
    split = None
    emptied = False
    for part in parts:
        if part.startswith(b"lowerdir="):
            value = part[9:]
            listed = _plain_list(value)
            split = (part, listed) if listed else None
            layers = len(listed) if listed else _layers_in(value)
            emptied = not layers
        elif part.startswith((b"lowerdir+=", b"datadir+=")):
            layers += 1
            if part in (b"lowerdir+=", b"datadir+="):
                raise Malformed(f"an empty layer: {part.decode()}", "name a directory, or drop it")
    if emptied and not layers:
        raise Malformed("lowerdir= is empty", "an overlay needs at least one lower layer")
    return Options(parts, layers, split)


def _plain_list(value: bytes) -> list[bytes] | None:
    """The layers of VALUE where each colon stands between two and nothing is escaped, or None."""
    if b"\\" in value:
        return None
    layers = value.split(b":")
    return layers if all(layers) else None


def _layers_in(value: bytes) -> int:
    if not value:
        return 0
    if value[0] == 0x3A:
        raise Malformed(
            "an empty layer at the start of lowerdir=",
            "layers can't be appended with a leading colon; name them all, or use lowerdir+=",
        )
    return _count_carefully(layers_and_colons(value))


def _count_carefully(tokens: list[bytes]) -> int:
    if tokens[-1].startswith(b":"):
        raise Malformed("an empty layer at the end of lowerdir=", "take the last colon away")
    data = False
    for colons in tokens[1::2]:
        if len(colons) > 2:
            raise Malformed(
                f"an empty layer in lowerdir=: {len(colons)} colons in a row",
                "one colon separates layers, two begin a data-only layer",
            )
        if data and len(colons) == 1:
            raise Malformed(
                "a regular layer after a data-only layer in lowerdir=",
                "put the layers that follow '::' last",
            )
        data = len(colons) == 2
    return len(tokens) // 2 + 1
