"""Short links for long overlay mounts, kept alive.

``shorten(options)``, ``rewrite(text, format=…)`` and ``expand(options)`` are the Python API,
``Plan`` and ``Rewritten`` what they decide, ``Malformed`` and ``UserError`` what they raise.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovl_linkd.api import Malformed, Plan, Rewritten, UserError, expand, rewrite, shorten

__version__ = "0.1.0"
__all__ = [
    "Malformed",
    "Plan",
    "Rewritten",
    "UserError",
    "__version__",
    "expand",
    "rewrite",
    "shorten",
]


def __getattr__(name: str) -> object:
    # Short-lived commands import this package for every start: what they don't use stays away.
    if name in __all__:
        from ovl_linkd import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
