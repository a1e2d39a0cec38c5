"""Waits for the outcome. If the configuration is faulty, the daemon goes on with the one it has.

Exit codes: 0 loaded, 1 faulty or not allowed, 3 the daemon is not running, 4 can't tell.
"""

from argparse import ArgumentParser, Namespace

from ovl_linkd.commands.daemon import ask

#: Seconds; to read 10,000 links takes several.
TIMEOUT = 60.0


def arguments(_parser: ArgumentParser) -> None:
    """No arguments of its own."""


def run(options: Namespace) -> int:
    """Have the daemon read its configuration anew."""
    links = ask(options.config, "Reload", TIMEOUT)
    print(f"loaded, {len(links)} {'link' if len(links) == 1 else 'links'} kept")
    return 0
