"""Options and nothing else, as mount(2), programs and logs have them; a newline may end them."""

from collections.abc import Iterator, Sequence

from ovl_linkd.formats.judging import Means
from ovl_linkd.formats.spelling import Rewritten
from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.shorten import Prefix


def rewrite(text: bytes, means: Means) -> Rewritten:
    """Decide about the options TEXT; there is one plan. Raises Malformed.

    Nothing is known of who will mount, so that mount(2) counts.
    """
    plan = means.plan(text.removesuffix(b"\n"))
    return Rewritten(plan.options + _end(text) if plan.fits else b"", (plan,))


def mounts(text: bytes) -> Iterator[bytes]:
    """Yield the options TEXT."""
    yield text.removesuffix(b"\n")


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return the options TEXT by the long names. Raises Malformed."""
    return shorten.expand(text.removesuffix(b"\n"), prefixes) + _end(text)


def _end(text: bytes) -> bytes:
    return b"\n" if text.endswith(b"\n") else b""
