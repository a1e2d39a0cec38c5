"""`python -m ovl_linkd`, the same as `ovl-linkd`."""

import sys

from ovl_linkd.cli import main

sys.exit(main())
