"""Waits for the outcome, and says how each link is then. Without a NAME the farm is put right, too.

Exit codes: 0 all ok, 1 some link isn't, or it is not allowed; 3 the daemon is not running, 4 can't
tell.
"""

from argparse import ArgumentParser, Namespace
from typing import Any

from ovl_linkd.commands.daemon import ask
from ovl_linkd.text import printable


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="links; all if none is named")
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="also replace a foreign symlink that was there before the daemon",
    )
    parser.add_argument(
        "--offline", action="store_true", help="repair from this process, without a daemon"
    )


def run(options: Namespace) -> int:
    """Put the links right, and print how each is."""
    well = True
    if options.offline:
        links, well = _offline(options)
    else:
        links = ask(options.config, "Repair", names=options.names, adopt=options.adopt)
    for link in links:
        print(printable(_line(link)))
    return 0 if well and all(link["state"] == "ok" for link in links) else 1


def _line(link: dict[str, Any]) -> str:
    text = f"{link['name']}: {link['state']}: {link['path']} -> {link['target']}"
    if link["reason"]:
        text += f": {link['reason']}"
    return f"{text} (to do: {link['remedy']})" if link["remedy"] else text


def _offline(options: Namespace) -> tuple[list[dict[str, Any]], bool]:
    """Do it here; the links, and whether the farm is well, if it was meant, too.

    Standard library only while the daemon's published file is fresh.
    """
    import time

    from ovl_linkd import published
    from ovl_linkd.errors import UserError
    from ovl_linkd.links.keeper import Keeper

    known = published.known(options.config)
    links = known.links
    if unknown := set(options.names) - {link.name for link in links}:
        raise UserError(f"no link is named {min(unknown)}", "ovl-linkd status", 2)
    keeper = Keeper(time.monotonic)
    keeper.want(link for link in links if not options.names or link.name in options.names)
    keeper.sweep()
    keeper.insist(keeper.names, time.monotonic(), options.adopt)
    well = _farm(known.farm) if known.farm and not options.names else True
    return [status._asdict() | status.link._asdict() for status in keeper.statuses()], well


def _farm(path: str) -> bool:
    """Put the entries of the farm at PATH right, and say so; whether all of it is well."""
    from ovl_linkd.links.offline import mend

    trouble, entries, mended = mend(path)
    text = f"farm: ok: {path}: {mended:,} of {entries:,} entries put right"
    if trouble:
        text = f"farm: {trouble.state}: {path}: {trouble.reason} (to do: {trouble.remedy})"
    print(printable(text))
    return trouble is None
