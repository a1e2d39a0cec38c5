"""Names for the entries of a farm: whole numbers from 1 on, in base 62, as short as they can be."""

import re
from collections.abc import Iterable

#: in the order of their bytes, so that of two ids of one length the greater is that of the greater
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: what every id matches. Eleven digits hold 64 bits; none begins with 0, so that each number has
#: one name.
IDS = "[1-9A-Za-z][0-9A-Za-z]{0,10}"

_WORTH = {digit: worth for worth, digit in enumerate(DIGITS)}
_ID = re.compile(IDS)


def name(number: int) -> str:
    """The id of NUMBER, which is at least 1."""
    digits = ""
    while number:
        number, digit = divmod(number, len(DIGITS))
        digits = DIGITS[digit] + digits
    return digits


def number(name: str) -> int | None:
    """The number whose id NAME is; None where it is none."""
    if not _ID.fullmatch(name):
        return None
    total = 0
    for digit in name:
        total = total * len(DIGITS) + _WORTH[digit]
    return total


def highest(names: Iterable[str], most: int) -> int:
    """The highest number of at most MOST whose id is among NAMES, 0 without any.

    There may be a hundred thousand of them: they are compared as they are.
    """
    end = _rank(name(most))
    ranks = (_rank(each) for each in names if _ID.fullmatch(each))
    _, found = max((rank for rank in ranks if rank <= end), default=(0, ""))
    return number(found) or 0


def _rank(name: str) -> tuple[int, str]:
    return len(name), name
