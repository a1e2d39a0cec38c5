"""OPTIONS are read from standard input if they are not given. What is given in another format than
raw comes out as it was, but for paths in the options of its overlay mounts.

fstab and units go by configured links only, which are there early in a boot where ovl-linkd is
enabled. They are judged, as mount lines are, by this machine's mount(8).

Exit codes: 0 it fits; 1 it can't be made to fit, or a link that it needs is not ok (standard output
stays empty); 2 malformed. --expand prints for reading: what it prints may be longer than what
mount(2) takes.
"""

import os
import sys
from typing import TYPE_CHECKING

from ovl_linkd import published
from ovl_linkd.errors import UserError
from ovl_linkd.formats import mount_program
from ovl_linkd.formats.judging import MOUNT2
from ovl_linkd.formats.spelling import Rewritten
from ovl_linkd.formats.table import FORMATS, Format
from ovl_linkd.links.link import Link, observe
from ovl_linkd.overlay import limits
from ovl_linkd.overlay.options import MAX_TEXT, Malformed
from ovl_linkd.overlay.shorten import ALWAYS, NEEDED, Plan, Prefix

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_MALFORMED = 2


def arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments of ``ovl-linkd rewrite``."""
    parser.add_argument(
        "--as",
        dest="format",
        choices=tuple(FORMATS),
        default="raw",
        help="what is given: " + "; ".join(f"{x.name}, {x.about}" for x in FORMATS.values()),
    )
    parser.add_argument("--expand", action="store_true", help="undo it: print the long paths")
    parser.add_argument(
        "--when",
        choices=(ALWAYS, NEEDED),
        default=ALWAYS,
        help="shorten whatever can be (default), or only what is too long",
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.add_argument("options", nargs="?", metavar="OPTIONS", help="default: standard input")


def run(args: "Namespace") -> int:
    """Run ``ovl-linkd rewrite``; the exit code. Raises UserError."""
    if args.expand and args.json:
        raise UserError("--expand prints text, not JSON", "leave --json away", _MALFORMED)
    links = published.known(args.config).links
    prefixes = [Prefix(x.name, os.fsencode(x.target), os.fsencode(x.path)) for x in links]
    form = FORMATS[args.format]
    text = _given(args.options)
    try:
        if args.expand:
            text = form.module.expand(text, prefixes)
            _warn_if_long(text, form)
            _print(text)
            return 0
        rewritten = _rewritten(text, prefixes, form, args.when)
    except Malformed as error:
        raise UserError(error.what, error.hint, _MALFORMED) from None
    _refuse_unless_fit(rewritten.plans)
    _refuse_unless_healthy(rewritten.plans, links)
    if not rewritten.plans:
        _warn("no overlay mount was found: nothing is changed")
    if args.json:
        _print_json(form, rewritten)
    else:
        _print(rewritten.text)
    return 0


def _rewritten(text: bytes, prefixes: list[Prefix], form: Format, when: str) -> Rewritten:
    way = mount_program.way() if form.by_mount8 else MOUNT2
    return form.module.rewrite(text, prefixes, limits.of_this_kernel(), when, way=way)


def _given(argument: str | None) -> bytes:
    if argument is not None:
        return os.fsencode(argument)
    if sys.stdin is None:
        raise UserError(
            "no OPTIONS, and standard input is closed", "give them as an argument", _MALFORMED
        )
    # One byte more than is taken tells a text that is too long from one that just fits.
    text = sys.stdin.buffer.read(MAX_TEXT + 2)
    if len(text) > MAX_TEXT + 1:
        raise UserError(
            f"more than {MAX_TEXT:,} bytes on standard input, longer than any mount's options",
            "is this the right file?",
            _MALFORMED,
        )
    return text


def _refuse_unless_fit(plans: tuple[Plan, ...]) -> None:
    for plan in plans:
        if not plan.fits:
            raise UserError(plan.reason or "it can't be made to fit", plan.remedy or "")


def _refuse_unless_healthy(plans: tuple[Plan, ...], links: tuple[Link, ...]) -> None:
    """Raise UserError if a link that was used doesn't lead to its target on disk now."""
    used = {name for plan in plans for name in plan.links}
    for link in links:
        if link.name in used:
            seen = observe(link)
            if seen.state != "ok":
                why = f": {seen.reason}" if seen.reason else ""
                raise UserError(f"link {link.name} is {seen.state}{why}", "ovl-linkd status")


def _warn_if_long(text: bytes, form: Format) -> None:
    most = limits.of_this_kernel().mount
    if form.name == "raw" and len(text.removesuffix(b"\n")) > most:
        _warn(f"{len(text):,} bytes, mount(2) takes {most:,}: for reading, not for mounting")


def _warn(what: str) -> None:
    print(f"ovl-linkd rewrite: {what}", file=sys.stderr)


def _print(text: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text if text.endswith(b"\n") else text + b"\n")


def _print_json(form: Format, rewritten: Rewritten) -> None:
    import json

    shown: dict[str, object] = {"schema_version": 1}
    if form.name == "raw":
        shown |= _shown(rewritten.plans[0])
    else:
        shown["mounts"] = [_shown(plan) for plan in rewritten.plans]
        shown["lines"] = os.fsdecode(rewritten.text)
    print(json.dumps(shown))


def _shown(plan: Plan) -> dict[str, object]:
    return {
        "strategy": plan.strategy,
        "options": os.fsdecode(plan.options),
        "bytes": {
            "before": plan.before,
            "after": plan.after,
            "limit": plan.limit,
            "limit_of": plan.limit_of,
        },
        "layers": plan.layers,
        "fits": plan.fits,
    }
