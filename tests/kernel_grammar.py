"""What the kernel makes of overlay options, read byte by byte: the model that tests compare with.

Slow and literal on purpose, after fs/overlayfs/params.c; it shares nothing with the product.
"""

from typing import NamedTuple


class Mount(NamedTuple):
    """The directories that the kernel would look up, in order; and all other options as given."""

    lower: tuple[bytes, ...]
    upper: bytes | None
    work: bytes | None
    others: tuple[bytes, ...]


def split_at(text: bytes, separator: int) -> list[bytes]:
    """Split at unescaped separators, backslashes kept."""
    found = [bytearray()]
    at = 0
    while at < len(text):
        if text[at] == ord("\\"):
            found[-1] += text[at : at + 2]
            at += 2
            continue
        if text[at] == separator:
            found.append(bytearray())
        else:
            found[-1].append(text[at])
        at += 1
    return [bytes(each) for each in found]


def unescape(text: bytes) -> bytes:
    """Take each backslash away and keep the byte after it."""
    kept = bytearray()
    at = 0
    while at < len(text):
        if text[at] == ord("\\"):
            at += 1
        kept += text[at : at + 1]
        at += 1
    return bytes(kept)


def read(text: bytes) -> Mount:
    """Read options without LSM ones."""
    lower: list[bytes] = []
    upper = work = None
    others = []
    for option in split_at(text, ord(",")):
        name, equals, value = option.partition(b"=")
        if equals and name == b"lowerdir":
            lower = [unescape(layer) for layer in split_at(value, ord(":"))]
        elif equals and name in (b"lowerdir+", b"datadir+"):
            lower.append(value)
        elif equals and name == b"upperdir":
            upper = unescape(value)
        elif equals and name == b"workdir":
            work = unescape(value)
        else:
            others.append(option)
    return Mount(tuple(lower), upper, work, tuple(others))
