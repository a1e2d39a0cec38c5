"""The manual pages say what there is, and what they say works.

What is made of the parsers, the schema and the interface can't be wrong, only out of date; the
rest of a page is prose, and goes stale unless something runs it.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ovl_linkd import cli
from ovl_linkd.config import load
from ovl_linkd.links.link import Link
from tests.manuals import DOCS, PAGES, README, TOP, blocks, sections, told, typed


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages as they are installed, by name."""
    directory = tmp_path_factory.mktemp("man")
    script("man").main(directory)
    return {page.name: page for page in directory.glob("*/*")}


# --- nothing is missing ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    """An option was added, and the page knew nothing of it."""
    assert script("generate").renewed(PAGES[name]) == PAGES[name], "out of date: make docs"


def actions() -> Iterator[tuple[str, str]]:
    for name in cli.COMMANDS:
        parser: ArgumentParser = cli.parser(name)
        for action in parser._actions:
            for word in action.option_strings or [str(action.metavar)]:
                yield name, word


@pytest.mark.parametrize(("command", "word"), list(actions()))
def test_every_option_is_explained(command: str, word: str) -> None:
    page = PAGES["ovl-linkd.8"]
    mine = re.search(rf"(?ms)^{command}\n-+\n.*?(?=^[\w-]+\n[-=]{{3,}}\n|^\.\. end)", page)
    assert mine, f"no section about {command}"
    general = page.partition(".. begin:")[0]
    assert re.search(rf"(?m)^(\*\*-\w\*\*, )?\*+{re.escape(word)}\*", mine[0] + general)


def test_every_key_is_explained() -> None:
    """Also those of a link and of the farm, which stand below other keys in the schema."""
    page = PAGES["ovl-linkd.yaml.5"]
    named = set(re.findall(r"(?m)^\*\*([\w.-]+)\*\* \(", page))
    schema = script("generate").json.loads((TOP / "config" / "config.schema.json").read_text())
    below = {
        f"{over}.{key}"
        for over, node in (
            ("links.NAME", schema["properties"]["links"]["additionalProperties"]),
            ("farm", schema["properties"]["farm"]),
        )
        for key in node["properties"]
    }
    assert named == schema["properties"].keys() | below | {"links.NAME"}


def test_every_state_is_explained() -> None:
    states = set(re.findall(r"(?m)^(\w+)\n {4}\S", PAGES["ovl-linkd.8"].partition("STATES")[2]))
    table = sections()["What keeping means"]
    assert states >= set(re.findall(r"\| `(\w+)` \|", table)) != set()


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/benchmarks.md"])
def test_what_a_page_links_to_is_there(page: str) -> None:
    """A picture was renamed, and the README showed a hole where it had been."""
    text = (TOP / page).read_text()
    there = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert [target for target in there if not (TOP / page).parent.joinpath(target).exists()] == []


# --- the pages can be read ---------------------------------------------------------------------


@pytest.mark.needs("man")
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [60, 80, 132])
def test_a_page_renders_without_a_warning(name: str, width: int, rendered: dict[str, Path]) -> None:
    done = subprocess.run(
        ["man", "--warnings=w", "--encoding=UTF-8", "--local-file", rendered[name]],
        env=os.environ | {"MANWIDTH": str(width), "LC_ALL": "C.UTF-8", "MANROFFOPT": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "SEE ALSO" in re.sub(".\b", "", done.stdout)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_found_by_what_it_is_about(name: str, rendered: dict[str, Path]) -> None:
    """whatis(1) and apropos(1) read this one line, and see nothing where it has another form."""
    title = PAGES[name].split("\n")[1]
    about = PAGES[name].split("\n")[5]
    text = rendered[name].read_text().replace("\\", "")
    assert re.search(rf"(?i)\.SH NAME\n{title} - {about}\n", text)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_refers_to_pages_that_exist(name: str) -> None:
    ours = set(re.findall(r"\*\*(ovl-linkd[\w.]*)\*\*\\\((\d)\)", PAGES[name]))
    assert ours <= {tuple(page.rsplit(".", 1)) for page in PAGES}
    mine = tuple(name.rsplit(".", 1))
    assert mine not in set(re.findall(r"\*\*([\w.-]+)\*\*\\\((\d)\)", PAGES[name]))


# --- what they say works -----------------------------------------------------------------------


def commands_of(text: str) -> Iterator[list[str]]:
    """Every call of ovl-linkd in the examples of TEXT, as words."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for call in re.findall(r"(?<![\w/.-])ovl-linkd ([^|&#\n)`<]*)", line):
            yield shlex.split(call)


def calls() -> list[list[str]]:
    fences = re.findall(r"(?ms)^```sh\n(.*?)^```", README)
    in_pages = [block for page in PAGES.values() for block in blocks(page)]
    found = [words for text in [*fences, *in_pages] for words in commands_of(text)]
    return [words for words in found if words and not words[0].startswith("#")]


def test_whatever_readers_are_told_to_type_is_typed_by_a_test() -> None:
    """A section was added with commands that nobody had ever run as they stood."""
    tests = "".join(path.read_text() for path in (TOP / "tests").rglob("test_*.py"))
    calls = [f'told("{title}")' for title in sections() if any(told(title))]
    calls += [f'typed("{page}")' for page in PAGES if any(typed(page))]
    assert [call for call in calls if call not in tests] == []


@pytest.mark.parametrize("words", calls(), ids=shlex.join)
def test_a_command_that_readers_are_told_exists(words: list[str]) -> None:
    name, *rest = words
    assert name in cli.COMMANDS
    try:
        cli.parser(name).parse_args(rest)
    except SystemExit as exit_:
        assert exit_.code == 0, f"ovl-linkd {shlex.join(words)} is a wrong call"


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which `ovl-linkd` is the one of this checkout."""
    program = tmp_path / "ovl-linkd"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ovl_linkd "$@"\n')
    program.chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(TOP / "daemon"),
    }


def run(text: str, shell: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-eu", "-c", text], env=shell, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def in_order() -> Iterator[Link]:
    """A machine as the examples assume it: the packaged link is there, and so is its target."""
    (link,) = load(None, roots=()).links
    # In this session's mount namespace only, and with nothing of the machine's below it.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/lib"], check=True)
    os.makedirs(link.target)
    os.symlink(link.target, link.path)
    yield link
    os.unlink(link.path)
    subprocess.run(["umount", "/var/lib"], check=True)


@pytest.mark.needs("root", "mount")
def test_the_examples_of_the_page_do_what_it_says(in_order: Link, shell: dict[str, str]) -> None:
    examples = PAGES["ovl-linkd.8"].partition("\nEXAMPLES\n")[2]
    _for_systemd, status, rewrite, below, reload = typed("ovl-linkd.8")
    short = "lowerdir=/run/ctrdl/2/fs:/run/ctrdl/1/fs"
    assert f"``{short}``" in examples
    long = f"lowerdir={in_order.target}/2/fs"
    assert run(rewrite, shell).splitlines() == [short, long]
    assert run(below, shell).strip().isdigit()
    # There is no daemon here, and that is what they then say.
    assert "ok" in run(status.replace("\n", " || test $? = 3\n"), shell)
    assert "1 link" in run(reload.replace("\n", " || test $? = 3\n"), shell)
