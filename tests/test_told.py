"""Every command that the README, SECURITY.md and the manual pages name is run by a test.

What stands in a block is run as it stands, section by section; test_docs.py holds the sections to
that. Here is what stands in the sentences between, where a command was once named that nobody had
ever tried.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovl_linkd import cli
from ovl_linkd.config import load
from tests.manuals import (
    CONFIGURATION,
    PAGES,
    README,
    TOP,
    blocks,
    fences,
    in_passing,
    sections,
    told,
    typed,
)

#: what is no command, though it looks like one
_NONE = {"lower layer 37 of 128 does not exist: …", "ovl-linkd COMMAND"}

#: where the command is run that begins no line of a block
RUN_BY = {
    "ln -s /usr/lib/ovl-linkd/mount.overlay /usr/sbin/": "helper/test_told.py",
    "make deb": "conftest.py",
    "make help": "test_told.py",
    "make setup": "test_told.py",
    "man mount.overlay": "test_docs.py",
    "man ovl-linkd": "test_docs.py",
    "man ovl-linkd-runc": "test_docs.py",
    "man ovl-linkd.control": "test_docs.py",
    "man ovl-linkd.yaml": "test_docs.py",
    "mount -i": "intercept/test_programs.py",
    "mount.overlay -o OPTIONS TARGET": "helper/test_refusing.py",
    "mount.overlay SOURCE TARGET": "faults/test_errors_mounts.py",
    "ovl-linkd --help": "test_cli.py",
    "ovl-linkd --version": "test_cli.py",
    "ovl-linkd exec -- ctr run …": "system/containerd/test_exec.py",
    "ovl-linkd guard --off": "daemon/test_guarded_links.py",
    "ovl-linkd init --print": "test_init.py",
    "ovl-linkd repair NAME --adopt": "daemon/test_commands.py",
    "runc state": "test_oci_runtime.py",
    "systemctl enable ovl-linkd": "system/machine.py",
    "systemctl stop ovl-linkd": "system/test_service.py",
}
#: and what none runs: some minutes, an hour, virtual machines; but its parts, each in small
IN_PARTS = {
    "make bench": "test_bench.py",
    "make kernels": "kernel/test_climbing.py",
    "make soak": "test_endurance.py",
}


def named() -> Iterator[str]:
    """The commands in the sentences; one of ours by its full name."""
    for words in sorted(set(in_passing()) - _NONE):
        yield f"ovl-linkd {words}" if words.split()[0] in cli.COMMANDS else words


def in_blocks() -> list[str]:
    """The lines of all blocks, which tests run."""
    pages = [block for page in PAGES for block in typed(page)]
    lines = [line for section in sections() for line in told(section)]
    return lines + [line for block in pages for line in block.splitlines()]


def begins(line: str, words: str) -> bool:
    """Whether LINE is WORDS, and perhaps more; of a word in capitals anything is one."""
    wanted = words.split()
    found = line.split()[: len(wanted)]
    return len(found) == len(wanted) and all(
        word == there or word.isupper() for word, there in zip(wanted, found, strict=True)
    )


def test_whatever_is_named_in_a_sentence_is_run_by_a_test() -> None:
    lines = in_blocks()
    alone = {words for words in named() if not any(begins(line, words) for line in lines)}
    where = RUN_BY | IN_PARTS
    assert alone == where.keys()
    assert [path for path in where.values() if not (TOP / "tests" / path).exists()] == []


@pytest.mark.parametrize(
    "words", [words for words in named() if words.startswith("ovl-linkd ")], ids=str
)
def test_a_command_in_a_sentence_exists(words: str) -> None:
    _, name, *rest = shlex.split(words.replace("…", ""))
    if name.startswith("-"):
        return  # test_cli.py has both
    known = {option for action in cli.parser(name)._actions for option in action.option_strings}
    before, *_ = " ".join(rest).split("--  ")
    assert {word for word in before.split() if word.startswith("--")} <= known | {"--"}


def test_no_command_hides_in_a_block_that_nothing_runs() -> None:
    """A block for a shell under another name than `sh`, or in SECURITY.md."""
    kinds = set(re.findall(r"(?m)^ *[`~]{3,}(\S+)", README))
    assert kinds == {"sh", "yaml", "toml", "python"}
    assert README.count("\n```") == 2 * sum(map(len, map(fences, kinds)))
    assert not re.search(r"(?m)^ *(```|~~~)|^ {4}", (TOP / "SECURITY.md").read_text())


# --- configurations --------------------------------------------------------------------------

_IN_PAGES = [block for page in PAGES.values() for block in blocks(page)]
EXAMPLES = [*fences("yaml"), *(block for block in _IN_PAGES if CONFIGURATION.match(block))]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_configuration_that_readers_are_shown_is_one(example: str, tmp_path: Path) -> None:
    """As a drop-in, on a machine whose snapshotter has the link that `ovl-linkd init` makes."""
    drop_ins = tmp_path / "config.yaml.d"
    drop_ins.mkdir()
    store = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
    before = {"links": {"ctrd": {"path": "/run/ctrd", "target": store}}}
    for number, text in enumerate((json.dumps(before), example)):
        (drop_ins / f"{number}.yaml").write_text(text)
        (drop_ins / f"{number}.yaml").chmod(0o644)
    made = load(None, roots=(str(tmp_path),))
    assert made != load(None, roots=()), "it says something"


# --- make ------------------------------------------------------------------------------------


def make(*words: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=TOP,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_says_what_there_is_and_the_manual_names_no_other_target() -> None:
    said = make()
    assert said == make("help")
    targets = set(re.findall(r"(?m)^  make (\S+)", said))
    assert {"setup", "demo", "test", "bench", "soak", "install", "uninstall"} <= targets
    assert {words.split()[1] for words in named() if words.startswith("make ")} <= targets


@pytest.mark.needs("root")
def test_what_see_it_and_a_minute_of_use_begin_with() -> None:
    """`make test` is what runs this."""
    assert list(told("See it")) == ["make demo", "make test"]
    assert "mounted, 128 of 128 layers, each in its place" in make("demo")
    make("setup")
    program = TOP / ".venv/bin/ovl-linkd"
    assert "`.venv/bin/ovl-linkd`" in README
    subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL)
