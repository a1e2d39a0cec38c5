"""What the mount(8) of this machine takes, tried out with real layers."""

import os

from ovl_linkd.doctor.finding import NOTE, OK, UNKNOWN, Finding
from ovl_linkd.formats import mount8
from ovl_linkd.formats.mount8 import HELPERS
from ovl_linkd.overlay import probes

_HELPER = "switch mount.overlay on (man mount.overlay)"
_ADMIN = "/usr/local/sbin:/usr/sbin:/sbin"


def findings() -> list[Finding]:
    """How many bytes of ``lowerdir`` go through, and whether the helper is there."""
    import shutil
    import subprocess  # noqa: F401  the child of the trial may no longer find it

    path = f"{os.environ.get('PATH', os.defpath)}:{_ADMIN}"
    program = shutil.which("mount", path=path)
    if program is None:
        return [Finding(NOTE, "there is no mount(8) here")]
    helper = next((each for each in HELPERS if os.path.exists(each)), None)
    try:
        outcome = probes.privately(lambda: _try(program))
    except probes.CantTry as error:
        return [_untried(str(error))]
    if not outcome["short"]:
        return [_untried("it did not mount two short layers either")]
    return [_of(outcome, helper)]


def _try(program: str) -> probes.Outcome:
    """Mount by two short names, by two of 301 bytes together, and the same by mount(2)."""
    long_name = "l" * 148
    for end in ("x", "y"):
        os.mkdir(long_name + end)
    both = f"lowerdir={long_name}x:{long_name}y"
    return {
        "short": _mounts(program, "lowerdir=a:b"),
        "long": _mounts(program, both),
        "forced": _mounts(program, both, LIBMOUNT_FORCE_MOUNT2="always"),
    }


def _mounts(program: str, options: str, **more: str) -> bool:
    import subprocess

    environment = {key: value for key, value in os.environ.items() if "LIBMOUNT" not in key} | more
    # -i: itself, without a helper; -n: nothing is written into /run/mount.
    command = [program, "-i", "-n", "-t", "overlay", "-o", options, "trial", "m"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _untried(why: str) -> Finding:
    if mount8.takes_by_value():
        what = "mount(8) says that it hands each value to fsconfig(2), which takes 255 bytes"
    else:
        what = "mount(8) says nothing of fsconfig(2): it will hand all options to mount(2)"
    return Finding(UNKNOWN, f"{what}; it could not be tried: {why}", "", "run it as root")


def _of(outcome: probes.Outcome, helper: str | None) -> Finding:
    if helper is not None:
        return Finding(OK, f"mount(8) hands overlays to {helper}: 500 layers")
    if outcome["long"]:
        what = "mount(8) hands all options to mount(2)"
        why = "past a page it fails, or mounts other layers than were given"
        return Finding(NOTE, what, why, f"{_HELPER}, or ovl-linkd rewrite --as mount")
    what = "mount(8) takes 255 bytes of lowerdir: 3 layers of containerd's"
    why = "it hands each value to fsconfig(2); more fails with 'wrong fs type, bad option …'"
    forced = ", or LIBMOUNT_FORCE_MOUNT2=always mount …" if outcome["forced"] else ""
    return Finding(NOTE, what, why, f"{_HELPER}, or ovl-linkd rewrite --as mount{forced}")
