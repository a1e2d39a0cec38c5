#!/usr/bin/python3 -I
"""Run a command on a terminal of its own and draw what it wrote: docs/record_demo.py COMMAND...

    sudo /usr/bin/python3 -I docs/record_demo.py .venv/bin/ovl-linkd demo >docs/demo.svg

Standard library only. What the command writes is taken as lines of UTF-8 text with SGR colours,
which is all that ovl-linkd writes; anything else of a terminal is not understood.
"""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator
from html import escape

COLUMNS = 100
ADVANCE, LEADING, MARGIN = 8.4, 19, 18  # pixels; text of 14 pixels
BACKGROUND, FOREGROUND = "#161b22", "#d0d7de"
# SGR parameter -> attributes of a <text>
STYLES = {
    "1": 'font-weight="bold" fill="#ffffff"',
    "2": 'fill="#8b949e"',
    "31": 'fill="#ff7b72"',
    "32": 'fill="#56d364"',
    "33": 'fill="#e3b341"',
}
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def record(command: list[str]) -> str:
    """What COMMAND writes to a terminal of COLUMNS columns. Exits as it does, where it fails."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        os.environ.pop("NO_COLOR", None)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("4H", 60, COLUMNS, 0, 0))
        os.execvp(command[0], command)
    output = bytearray()
    try:
        while piece := os.read(terminal, 65536):
            output += piece
    except OSError:
        pass  # EIO: nobody has the terminal open any more
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.stderr.write(output.decode())
        sys.exit(code)
    return output.decode().replace("\r\n", "\n")


def draw(text: str, command: str) -> Iterator[str]:
    """The lines of a picture of TEXT, below a prompt with COMMAND."""
    lines = [f"\033[2m#\033[0m \033[1m{command}\033[0m", *text.rstrip().split("\n")]
    width, height = COLUMNS * ADVANCE + 2 * MARGIN, len(lines) * LEADING + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
    yield f'width="{width:g}" height="{height:g}" font-size="14" fill="{FOREGROUND}" '
    yield f'font-family="{FONTS}" role="img">'
    yield f"<title>{escape(command)}</title>"
    yield f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>'
    for number, line in enumerate(lines):
        yield from _texts(line, MARGIN + 14 + number * LEADING)
    yield "</svg>"


def _texts(line: str, y: int) -> Iterator[str]:
    """LINE at the height Y, each run of one style by itself.

    Its place and its length are given, so that it stands in its columns in whatever font there is.
    """
    parts = re.split(r"\033\[([\d;]*)m", line)
    column = 0
    # Text and SGR parameters by turns, beginning with text in no style.
    for style, part in zip(["", *parts[1::2]], parts[::2], strict=True):
        if text := part.strip(" "):
            x = MARGIN + (column + part.index(text)) * ADVANCE
            yield (
                f'<text x="{x:g}" y="{y}" textLength="{len(text) * ADVANCE:g}" '
                f'xml:space="preserve" {STYLES.get(style, "")}>{escape(text, quote=False)}</text>'
            )
        column += len(part)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    name = " ".join([os.path.basename(sys.argv[1]), *sys.argv[2:]])
    print("\n".join(draw(record(sys.argv[1:]), name)))
