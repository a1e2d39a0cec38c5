"""Words of systemd unit files, whatever a path holds.

Source: systemd.syntax(7), systemd.service(5) "Command lines"; systemd 252's load-fragment.c.
"""

import os
import re

_PLAIN = re.compile(r"[\w/.:,=@+-]+", re.ASCII)


def argument(text: str) -> str:
    """TEXT as one word of an Exec line: quotes, C escapes, specifiers and variables undone."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = "".join(map(_escape, os.fsdecode(os.fsencode(text))))
    return f'"{escaped}"'.replace("%", "%%").replace("$", "$$")


def path(text: str) -> str | None:
    """TEXT as one word of a list of paths; None where such a list can't hold it.

    No C escapes are known there (config_parse_unit_requires_mounts_for), and a unit file is UTF-8.
    """
    if _PLAIN.fullmatch(text):
        return text
    if not text.isprintable():
        return None
    escaped = re.sub(r'["\\]', r"\\\g<0>", text)
    return f'"{escaped}"'.replace("%", "%%")


def _escape(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
