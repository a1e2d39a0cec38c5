"""`python -m ovl_linkd`, the same as `ovl-linkd`."""

from ovl_linkd.cli import script

script()
