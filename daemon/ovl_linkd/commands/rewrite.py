"""OPTIONS are read from standard input if they are not given. Formats: raw, the options alone;
mount, mount(8) command lines, in which only paths in the options change.

Exit codes: 0 it fits; 1 it can't be made to fit, or a link that it needs is not ok (standard output
stays empty); 2 malformed. --expand prints for reading: what it prints may be longer than what
mount(2) takes.
"""

import os
import sys
from typing import TYPE_CHECKING

from ovl_linkd import published
from ovl_linkd.errors import UserError
from ovl_linkd.formats import mount_line, mount_program, raw
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
        choices=("raw", "mount"),
        default="raw",
        help="what is given: options alone (default), or mount(8) command lines",
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
    text = _given(args.options)
    try:
        if args.expand:
            text = (raw if args.format == "raw" else mount_line).expand(text, prefixes)
            _warn_if_long(text, args.format)
            _print(text)
            return 0
        rewritten, plans = _rewritten(text, prefixes, args)
    except Malformed as error:
        raise UserError(error.what, error.hint, _MALFORMED) from None
    _refuse_unless_fit(plans)
    _refuse_unless_healthy(plans, links)
    if not plans:
        _warn("no overlay mount was found: nothing is changed")
    if args.json:
        _print_json(args.format, plans, rewritten)
    else:
        _print(rewritten)
    return 0


def _rewritten(
    text: bytes, prefixes: list[Prefix], args: "Namespace"
) -> tuple[bytes, tuple[Plan, ...]]:
    of_kernel = limits.of_this_kernel()
    if args.format == "raw":
        plan = raw.rewrite(text, prefixes, of_kernel, args.when)
        return plan.options, (plan,)
    by_value = mount_program.takes_by_value()
    return mount_line.rewrite(text, prefixes, of_kernel, args.when, by_value=by_value)


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


def _warn_if_long(text: bytes, form: str) -> None:
    most = limits.of_this_kernel().mount
    if form == "raw" and len(text) > most:
        _warn(f"{len(text):,} bytes, mount(2) takes {most:,}: for reading, not for mounting")


def _warn(what: str) -> None:
    print(f"ovl-linkd rewrite: {what}", file=sys.stderr)


def _print(text: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text if text.endswith(b"\n") else text + b"\n")


def _print_json(form: str, plans: tuple[Plan, ...], rewritten: bytes) -> None:
    import json

    shown: dict[str, object] = {"schema_version": 1}
    if form == "raw":
        shown |= _shown(plans[0])
    else:
        shown |= {"mounts": [_shown(plan) for plan in plans], "lines": os.fsdecode(rewritten)}
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
