"""Names for the entries of a farm: whole numbers from 1 on, in base 62, as short as they can be."""

import re

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: what every id matches. Eleven digits hold 64 bits; none begins with 0, so that each number has
#: one name.
IDS = rb"[1-9A-Za-z][0-9A-Za-z]{0,10}"

_WORTH = {digit: worth for worth, digit in enumerate(DIGITS)}
_ID = re.compile(IDS.decode())


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
