"""Text for people, made of paths that anybody may have chosen."""

import os


def printable(text: str) -> str:
    """TEXT with everything that isn't printable escaped, also bytes that are not UTF-8.

    A symlink may say anything: written as it is, it could forge log lines or steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # os.fsdecode of a byte
        return f"\\x{os.fsencode(char)[0]:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def middle(text: str, width: int) -> str:
    """TEXT in at most WIDTH columns, its middle left out if need be."""
    if len(text) <= width:
        return text
    right = (width - 1) * 2 // 3
    return f"{text[: width - 1 - right]}…{text[len(text) - right :]}"
