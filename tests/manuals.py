"""What the README and the manual pages tell their readers to type, for the tests that do type it.

test_docs.py sees to it that a section of the README, or a page, with commands has such a test.
"""

import re
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[1]
DOCS = TOP / "docs"
README = (TOP / "README.md").read_text()
PAGES = {page.stem: page.read_text() for page in sorted(DOCS.glob("*.[1-8].rst"))}

_COMMAND = re.compile(r"(?:[A-Z]+=\S+|ovl-linkd|varlinkctl|mount|make|systemctl|podman)\b")


def sections() -> dict[str, str]:
    """The sections of the README, and those below them, by their titles."""
    _, *rest = re.split(r"(?m)^##+ ", README)
    return {title: text for title, _, text in (each.partition("\n") for each in rest)}


def told(section: str) -> Iterator[str]:
    """The command lines in SECTION of the README, without their comments."""
    for fence in re.findall(r"(?ms)^```sh\n(.*?)^```", sections()[section]):
        for line in fence.splitlines():
            if command := re.sub(r"(^|\s+)#.*", "", line):
                yield command


def blocks(page: str) -> Iterator[str]:
    """The literal blocks in the text of a page."""
    for found in re.finditer(r"::\n\n((?: {4}.*\n|\n)+)", page):
        yield "\n".join(line[4:] for line in found[1].splitlines()).strip("\n") + "\n"


def typed(page: str) -> Iterator[str]:
    """The blocks of the page of this name that are for a shell."""
    return (block for block in blocks(PAGES[page]) if _COMMAND.match(block))
