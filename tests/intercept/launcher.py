"""`ovl-linkd exec` with something broken in it: `python -m tests.intercept.launcher FAULT WORDS`.

FAULT is a function of the module faults, called before the supervisor is forked off.
"""

import sys

from ovl_linkd import cli
from tests.intercept import faults

if __name__ == "__main__":
    _, fault, *words = sys.argv
    getattr(faults, fault)()
    sys.exit(cli.main(["exec", *words]))
