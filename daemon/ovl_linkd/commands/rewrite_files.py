"""`ovl-linkd rewrite --in-place`: files, all of them or none."""

from typing import TYPE_CHECKING

from ovl_linkd import in_place, shortening
from ovl_linkd.commands.rewrite import warn, warn_if_late, warn_of_unknown
from ovl_linkd.errors import UserError
from ovl_linkd.formats.table import Format
from ovl_linkd.in_place import Original, Prepared
from ovl_linkd.published import Published

if TYPE_CHECKING:
    from argparse import Namespace


def run(args: "Namespace", form: Format, known: Published) -> int:
    """Rewrite the files that ARGS name; the exit code. Raises UserError and OSError."""
    made = [_changed(name, args, form, known) for name in args.in_place]
    prepared: list[Prepared] = []
    try:
        for original, text in made:
            if text == original.text:
                warn(f"{original.name}: nothing to change")
            else:
                prepared.append(in_place.prepare(original, text))
    except BaseException:
        in_place.discard(prepared)
        raise
    in_place.replace(prepared)
    if args.expand:
        return max(warn_of_unknown(text, form, known.farm) for _, text in made)
    return 0


def _changed(
    name: str, args: "Namespace", form: Format, known: Published
) -> tuple[Original, bytes]:
    original = in_place.read(name, form.most)
    try:
        if args.expand:
            return original, shortening.expanded(original.text, form, known.links, known.farm)
        made = shortening.rewritten(original.text, form, args.when, known.links)
    except UserError as error:
        raise UserError(f"{name}: {error.what}", error.hint, error.code) from None
    if made.plans and form.durable:
        warn_if_late(made.plans)
    return original, made.text
