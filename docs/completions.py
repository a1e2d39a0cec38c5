"""Writes shell completions, made from the very parsers of the commands, into a directory.

    python docs/completions.py DIRECTORY

makes DIRECTORY/bash, DIRECTORY/zsh and DIRECTORY/fish, each with the file as that shell looks for
it. Needs shtab, and ovl_linkd importable.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

import shtab

from ovl_linkd import cli

#: shell -> where its file goes below share/, for make and the Debian package
PLACES = {
    "bash": "bash-completion/completions/ovl-linkd",
    "zsh": "zsh/site-functions/_ovl-linkd",
    "fish": "fish/vendor_completions.d/ovl-linkd.fish",
}

# The links are known to whoever runs the shell: what `status --json` prints needs no rights.
_NAMES = (
    "ovl-linkd status --json 2>/dev/null"
    """ | sed -n 's/^ *"name": "\\([a-z0-9_-]*\\)".*/\\1/p\'"""
)
_PREAMBLE = {
    "bash": f'_ovl_linkd_links() {{\n  compgen -W "$({_NAMES})" -- "$1"\n}}',
    "zsh": f'_ovl_linkd_links() {{\n  compadd -- ${{(f)"$({_NAMES})"}}\n}}',
    "fish": f"function _ovl_linkd_links\n  {_NAMES}\nend",
}
_LINKS = {"bash": "_ovl_linkd_links", "zsh": "_ovl_linkd_links", "fish": "(_ovl_linkd_links)"}


def whole_parser() -> ArgumentParser:
    """One parser of everything; the program itself makes only that of the command it was given."""
    whole = ArgumentParser(prog="ovl-linkd")
    whole.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, summary in cli.COMMANDS.items():
        parser = cli.parser(name)
        for action in parser._actions:
            # Not annotated by argparse; shtab looks for it on the actions.
            if action.metavar in ("FILE", "DIRECTORY"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar == "NAME":
                action.complete = _LINKS  # type: ignore[attr-defined]
        commands.add_parser(name, help=summary, parents=[parser], add_help=False)
    return whole


def completion(shell: str) -> str:
    """The completion file for SHELL, a key of PLACES."""
    return shtab.complete(whole_parser(), shell, preamble=_PREAMBLE[shell]).rstrip() + "\n"


if __name__ == "__main__":
    for shell, place in PLACES.items():
        file = Path(sys.argv[1], place)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(completion(shell), encoding="utf-8")
