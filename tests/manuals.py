"""What the README and the manual pages tell their readers to type, for the tests that do type it.

test_docs.py sees to it that a section of the README, or a page, with commands has such a test.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

TOP = Path(__file__).parents[1]
DOCS = TOP / "docs"
README = (TOP / "README.md").read_text()
PAGES = {page.stem: page.read_text() for page in sorted(DOCS.glob("*.[1-8].rst"))}

# What docs/generate.py makes of the parsers, the interface and the schema.
_GENERATED = r"(?ms)^\.\. begin: .*?^\.\. end: [^\n]*\n"
_LITERAL = r"::\n\n((?: +.*\n|\n)+)"
#: how a block begins that is a configuration; any other is for a shell
CONFIGURATION = re.compile(r"\w+:\n")
_FENCE = r"(?ms)^```(\w*)\n(.*?)^```"
# Words in the type of what is to be typed, and those in italics among them.
_IN_TYPE = r"``[^`]+``|\*\*[^*\n]+\*\*(?:\s+\*\*?[^*\n]+\*\*?)*"
_CALL = re.compile(r"[a-z][\w./-]* [^=\s]")  # the word of a command, and more


def sections() -> dict[str, str]:
    """The sections of the README, and those below them, by their titles."""
    _, *rest = re.split(r"(?m)^##+ ", README)
    return {title: text for title, _, text in (each.partition("\n") for each in rest)}


def fences(kind: str) -> list[str]:
    """What stands in the README's fences of this KIND."""
    return [text for found, text in re.findall(_FENCE, README) if found == kind]


def told(section: str) -> Iterator[str]:
    """The command lines in SECTION of the README, without their comments."""
    for fence in re.findall(r"(?ms)^```sh\n(.*?)^```", sections()[section]):
        for line in fence.splitlines():
            if command := re.sub(r"(^|\s+)#.*", "", line):
                yield command


def blocks(page: str) -> Iterator[str]:
    """The literal blocks in the text of a page that is written by hand."""
    for found in re.finditer(_LITERAL, re.sub(_GENERATED, "", page)):
        yield textwrap.dedent(found[1]).strip("\n") + "\n"


def typed(page: str) -> list[str]:
    """The blocks of the page of this name that are for a shell."""
    return [block for block in blocks(PAGES[page]) if not CONFIGURATION.match(block)]


def in_passing() -> Iterator[str]:
    """The commands that stand in the sentences of the README, SECURITY.md and the pages.

    Words that nobody is told to type but that stand in the same type are among them.
    """
    for text in (README, (TOP / "SECURITY.md").read_text()):
        yield from _commands(re.findall(r"`([^`]+)`", re.sub(_FENCE, "", text)))
    for page in PAGES.values():
        prose = re.sub(_LITERAL, "\n\n", re.sub(_GENERATED, "", page))
        yield from _commands(found.replace("*", "") for found in re.findall(_IN_TYPE, prose))


def _commands(spans: Iterable[str]) -> Iterator[str]:
    for span in spans:
        words = " ".join(span.strip("`").split())
        if _CALL.match(words):
            yield words
