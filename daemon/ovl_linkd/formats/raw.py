"""Options and nothing else, as mount(2), programs and logs have them; a newline may end them."""

from collections.abc import Sequence

from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.limits import Limits
from ovl_linkd.overlay.shorten import Plan, Prefix


def rewrite(text: bytes, prefixes: Sequence[Prefix], limits: Limits, when: str) -> Plan:
    """Decide about the options TEXT. Raises Malformed."""
    return shorten.plan(text.removesuffix(b"\n"), prefixes, limits, when)


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return the options TEXT by the long names. Raises Malformed."""
    return shorten.expand(text.removesuffix(b"\n"), prefixes)
