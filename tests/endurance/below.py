"""What runs below `ovl-linkd exec` in the soak: a program that mounts by itself and knows no limit.

python -m tests.endurance.below TIMES LAYERS POINT, the options on standard input. Ends with the
first mount that fails, or shows other layers than it was told.
"""

import os
import sys
import time

from ovl_linkd.overlay import mounting
from tests.bench import stores
from tests.kernel.world import mount_as_it_stands


def main() -> None:
    """Mount, look, unmount; print the seconds that each mount(2) took."""
    times, layers, point = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    options = sys.stdin.buffer.read()
    for _ in range(times):
        began = time.perf_counter()
        number = mount_as_it_stands(options, os.fsencode(point))
        spent = time.perf_counter() - began
        if number:
            sys.exit(f"mount(2): {os.strerror(number)}")
        if not stores.shows(point, layers):
            sys.exit("other layers were mounted than were told")
        mounting.umount(point)
        print(spent)


if __name__ == "__main__":
    main()
