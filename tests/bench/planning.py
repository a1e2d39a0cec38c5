"""plan() beside the mount(2) that its result is for."""

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator

from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.shorten import Plan, Prefix, plan
from tests.bench import world
from tests.bench.figures import Figure, rounds, sample

LAYERS = 500
ROUNDS = 60
BUDGET = 0.05  # of mount(2)

_STORE = world.STORE.encode()
_SHORTEST = Prefix("shortest", _STORE, b"/r")  # 500 layers by this one fit
_USUAL = Prefix("usual", _STORE, b"/run/ctrdl")  # by this one, they don't: plan() says why


def measure(effort: float) -> Iterator[Figure]:
    """Plans that work out and plans that don't, in turn with mounts of as many layers."""
    ids = [b"%d" % number for number in range(100, 100 + LAYERS)]
    count = rounds(ROUNDS, effort)
    times = _in_a_root_of_its_own(lambda: _measure(ids, count))
    spent = {name: sample(1e6 * each for each in values) for name, values in times.items()}
    # Of both ways to mount so many layers, the quicker one: it leaves plan() less.
    quickest = min(spent["mount relative"], spent["mount by link"], key=lambda each: each.p50)
    for what in ("fits", "refused"):
        name = f"plan() of {LAYERS} layers, {what}"
        yield Figure(name, spent[what], "µs", "mount(2)", quickest, BUDGET, command="plan(...)")
    for what, how in (("mount by link", "by /r/NNN"), ("mount relative", "by NNN after chdir")):
        yield Figure(f"mount(2) {how}", spent[what], "µs", command="mount(2)")


def _measure(ids: list[bytes], count: int) -> dict[str, list[float]]:
    """The seconds of each round of each. The working directory is that of the layers."""
    limits = of_this_kernel()
    given = b"lowerdir=" + b":".join(b"%b/%b" % (_STORE, each) for each in ids)
    made = plan(given, [_SHORTEST], limits)
    if not made.fits or made.layers != LAYERS:
        raise RuntimeError(f"500 layers do not fit: {made.reason}")
    # As containerd writes them: too long by /run/ctrdl.
    long = b"lowerdir=" + b":".join(b"%b/%b/fs" % (_STORE, each) for each in ids)
    relative = b"lowerdir=" + b":".join(ids)
    tasks: dict[str, Callable[[], Plan | None]] = {
        "mount by link": lambda: mounting.mount_overlay("bench", "/m", made.options),
        "fits": lambda: plan(given, [_SHORTEST], limits),
        "mount relative": lambda: mounting.mount_overlay("bench", "/m", relative),
        "refused": lambda: plan(long, [_USUAL], limits),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(count):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - began)
            if name.startswith("mount"):
                mounting.umount("/m")
    return times


def _in_a_root_of_its_own(task: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
    """Run TASK in a child, below a root directory where `/r` may be made."""
    root = world.fresh("root")
    for number in range(100, 100 + LAYERS):
        os.makedirs(f"{root}{world.STORE}/{number}")
    os.symlink(world.STORE, f"{root}/r")
    os.mkdir(f"{root}/m")
    # Imported by the first call otherwise, which finds no library below that root.
    ctypes.CDLL(None, use_errno=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.chroot(root)
            os.chdir(world.STORE)
            with open(writing, "w") as pipe:
                json.dump(task(), pipe)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("500 layers could not be mounted")
    times: dict[str, list[float]] = json.loads(said)
    return times
