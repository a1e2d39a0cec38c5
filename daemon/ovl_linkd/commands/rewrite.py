"""OPTIONS are read from standard input if they are not given. What is given in another format than
raw comes out as it was, but for paths in the options of its overlay mounts.

What outlives a boot, fstab, units and files, goes by configured links only, which are there early
in a boot where ovl-linkd is enabled. fstab, units and mount lines are judged by this machine's
mount(8).

--in-place replaces each FILE as a whole, with the owner, mode and extended attributes it had, and
none of them where one can't be rewritten; a symlink's target is what is replaced.

What does not outlive a boot goes by the farm, if one is configured, where the links don't suffice:
root leases a name there for each layer that needs one.

Exit codes: 0 it fits; 1 it can't be made to fit, a link that it needs is not ok, the configuration
is faulty, or a FILE can't be read or replaced (standard output stays empty); 2 malformed. --expand
prints for reading: what it prints may be longer than what
mount(2) takes. It exits with 1, too, where a path can't be known: by a name that the farm no longer
has, or in mountinfo a relative one.
"""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ovl_linkd import published, shortening
from ovl_linkd.errors import UserError
from ovl_linkd.formats.spelling import Rewritten
from ovl_linkd.formats.table import FORMATS, Format
from ovl_linkd.overlay import limits
from ovl_linkd.overlay.shorten import ALWAYS, NEEDED, Plan
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_WRONG_CALL = 2
#: made early in a boot, by this unit's link
_EARLY = "/etc/systemd/system/sysinit.target.wants/ovl-linkd-links.service"


def arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments of ``ovl-linkd rewrite``."""
    parser.add_argument(
        "--as",
        dest="format",
        choices=tuple(FORMATS),
        metavar="FORMAT",
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
    parser.add_argument(
        "--in-place", nargs="+", metavar="FILE", help="rewrite these files instead of OPTIONS"
    )
    parser.add_argument("options", nargs="?", metavar="OPTIONS", help="default: standard input")


def run(args: "Namespace") -> int:
    """Run ``ovl-linkd rewrite``; the exit code. Raises UserError."""
    form = FORMATS[args.format]
    _refuse_what_excludes_itself(args)
    known = published.known(args.config)
    if args.in_place:
        from ovl_linkd.commands import rewrite_files

        return rewrite_files.run(args, form, known)
    text = _given(args.options, form)
    if args.expand:
        text = shortening.expanded(text, form, known.links, known.farm)
        _warn_if_long(text, form)
        _print(text, args, form)
        return warn_of_unknown(text, form, known.farm)
    made = shortening.rewritten(text, form, args.when, known.links, known)
    if not made.plans:
        warn("no overlay mount was found: nothing is changed")
    if form.durable:
        warn_if_late(made.plans)
    if args.json:
        _print_json(form, made)
    else:
        _print(made.text, args, form)
    return 0


def _refuse_what_excludes_itself(args: "Namespace") -> None:
    if not FORMATS[args.format].shortened and not args.expand:
        raise UserError(
            f"{args.format} tells what is mounted, and can only be expanded",
            "give --expand",
            _WRONG_CALL,
        )
    if args.expand and args.json:
        raise UserError("--expand prints text, not JSON", "leave --json away", _WRONG_CALL)
    if args.in_place and (args.json or args.options is not None):
        raise UserError(
            "--in-place prints nothing and takes no OPTIONS",
            "leave them, or --json, away",
            _WRONG_CALL,
        )


def _given(argument: str | None, form: Format) -> bytes:
    if argument is not None:
        return os.fsencode(argument)
    if sys.stdin is None:
        raise UserError(
            "no OPTIONS, and standard input is closed", "give them as an argument", _WRONG_CALL
        )
    # One byte more than is taken tells a text that is too long from one that just fits.
    text = sys.stdin.buffer.read(form.most + 2)
    if len(text) > form.most + 1:
        raise UserError(
            f"more than {form.most:,} bytes on standard input, longer than any mount's options",
            "is this the right file?",
            _WRONG_CALL,
        )
    return text


def _warn_if_long(text: bytes, form: Format) -> None:
    most = limits.of_this_kernel().mount
    if form.name == "raw" and len(text.removesuffix(b"\n")) > most:
        warn(f"{len(text):,} bytes, mount(2) takes {most:,}: for reading, not for mounting")


def warn_of_unknown(text: bytes, form: Format, farm: str | None) -> int:
    """Say which paths in the expanded TEXT can't be known, and return the exit code for it."""
    from ovl_linkd import leasing

    unknown = [os.fsdecode(short) for short in (leasing.unknown_in(text, farm) if farm else [])]
    said = [f"{short} is no entry of the farm, or not any more" for short in unknown]
    if form.name == "mountinfo":
        from ovl_linkd.formats import mountinfo

        said += mountinfo.relative(text)
    for each in said:
        warn(printable(each))
    return 1 if said else 0


def warn_if_late(plans: Iterable[Plan]) -> None:
    """Say so where PLANS rest on links that are not there before a boot mounts."""
    if any(plan.links for plan in plans) and not os.path.lexists(_EARLY):
        warn("at boot its links are there in time only by: systemctl enable ovl-linkd")


def warn(what: str) -> None:
    """Say WHAT to a person, beside what is printed."""
    print(f"ovl-linkd rewrite: {what}", file=sys.stderr)


def _print(text: bytes, args: "Namespace", form: Format) -> None:
    """Print TEXT as it is; where it had no line of its own, as one."""
    alone = args.options is not None or form.name == "raw"
    sys.stdout.flush()
    sys.stdout.buffer.write(text + b"\n" if alone and not text.endswith(b"\n") else text)


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
