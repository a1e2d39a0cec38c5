"""Lines of systemd's files as words: systemd.syntax(7), tmpfiles.d(5)."""

import re

_WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\.|[^\s"'\\])+""")
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<text>(?:(?!(?P=quote))[^\\]|\\.)*)(?P=quote)""")


def split(line: str) -> list[str]:
    """The words of LINE without their quotes. Escapes, which not every file knows, are kept."""
    return [_QUOTED.sub(lambda match: match["text"], word) for word in _WORD.findall(line)]
