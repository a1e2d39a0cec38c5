"""Run on real kernels of Debian's what depends on the kernel; print what passed on which.

Each is booted in a virtual machine over this machine's own files; for another architecture over a
small Debian of that one. With KVM that takes minutes, without it an hour or more for each. Exit
codes: 0 nothing failed, 1 something did, or was not reached.
"""

import argparse
import platform
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.kernels.machine import TOP, Kernel, boot

BUILD = TOP / "build/kernels"

# The release and the architecture, as in the name of the meta-package.
KERNELS = (
    "bullseye-amd64",  # 5.10
    "bookworm-amd64",  # 6.1
    "trixie-amd64",  # 6.12
    "trixie-backports-amd64",  # the newest
    "trixie-arm64",
    "trixie-arm64-16k",  # pages of 16 KiB
)
# What says something about a kernel.
SUITES = {
    "ladder": ("tests/kernel/test_climbing.py", "tests/test_mounting.py"),
    "mounts": ("tests/kernel/test_layers.py", "tests/kernel/test_cut_options.py"),
    "causes": ("tests/kernel/test_diagnose.py", "tests/test_doctor_host.py"),
    "exec": ("tests/intercept/test_filter.py", "tests/intercept/test_callers.py"),
    "farm": ("tests/test_farm.py", "tests/test_link.py", "tests/test_watch.py"),
    "demo": ("tests/kernel/test_demo.py",),
    "helper": ("tests/helper",),
    "daemon": ("tests/daemon",),
}
# For another architecture than this machine's: what these need.
FEW = ("ladder", "mounts", "causes", "exec")
USERLAND = """
    base-files base-passwd bash busybox-static coreutils dash findutils gcc grep libc6-dev login
    mount passwd procps python3 python3-jsonschema python3-systemd python3-yaml sed systemd tar
    util-linux
"""


class Outcome(NamedTuple):
    """Of one suite: how many passed, which failed, and why which could not apply."""

    passed: int = 0
    failed: tuple[str, ...] = ("not reached",)
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.passed}/{len(self.failed)}/{len(self.skipped)}"


def main() -> int:
    """Boot every kernel that was asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="make kernels", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=KERNELS, help=", ".join(KERNELS))
    parser.add_argument("--suites", help=f"{','.join(SUITES)}; all by default")
    parser.add_argument("--seconds", type=float, default=7200, help="that one kernel may take")
    options = parser.parse_args()
    everything: list[Outcome] = []
    print("passed/failed/not applicable")
    for name in options.kernels:
        few = name.split("-arm64")[0] != name and platform.machine() != "aarch64"
        suites = options.suites.split(",") if options.suites else FEW if few else tuple(SUITES)
        outcomes = _run(name, suites, options.seconds)
        print(name, *(f"{suite} {outcome}" for suite, outcome in outcomes.items()), sep="  ")
        why = Counter(reason for outcome in outcomes.values() for reason in outcome.skipped)
        for reason, number in why.items():
            print(f"    not applicable, {number}: {reason}")
        for suite, outcome in outcomes.items():
            for failure in outcome.failed:
                print(f"    failed: {suite}: {failure}")
        sys.stdout.flush()
        everything += outcomes.values()
    print(f"all that was said is in {BUILD.relative_to(TOP)}/results")
    return int(any(outcome.failed for outcome in everything))


def _run(name: str, suites: tuple[str, ...], seconds: float) -> dict[str, Outcome]:
    """Boot the kernel NAME and run SUITES, each in a pytest of its own."""
    release, architecture = name.replace("-arm64-16k", "-arm64").rsplit("-", 1)
    kernel = Kernel(BUILD / name, architecture)
    package = f"linux-image-{name[len(release) + 1 :]}"
    _fetch(release, architecture, kernel.directory, "--kernel", package)
    root, busybox = Path("/"), TOP / "build/containerd/usr/bin/busybox"
    if architecture != {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]:
        root = BUILD / f"userland-{architecture}"
        busybox = root / "usr/bin/busybox"
        # Of this machine's release: it is the same Python that .venv was made for.
        own = platform.freedesktop_os_release()["VERSION_CODENAME"]
        _fetch(own, architecture, root, "--closure", *USERLAND.split())
        shutil.copy(root / "usr/share/base-passwd/passwd.master", root / "etc/passwd")
        shutil.copy(root / "usr/share/base-passwd/group.master", root / "etc/group")
        for needed in ("dev", "mnt", "proc", "run", "sys", "tmp", "var/tmp"):
            (root / needed).mkdir(exist_ok=True)
        (root / "usr/bin/cc").unlink(missing_ok=True)
        (root / "usr/bin/cc").symlink_to("gcc")
    results = BUILD / "results" / name
    shutil.rmtree(results, ignore_errors=True)
    script = [
        'cd "$checkout"',
        "export PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin",
        "export OVL_LINKD_PATIENCE=300",  # an emulated processor takes twenty times as long
        "{ uname -srm; getconf PAGESIZE; .venv/bin/ovl-linkd doctor; } >/mnt/doctor 2>&1",
    ]
    pytest = ".venv/bin/python -m pytest -v --tb=short --hypothesis-profile=few"
    script += [
        f"{pytest} --junitxml=/mnt/{suite}.xml {shlex.join(SUITES[suite])} >/mnt/{suite}.log 2>&1"
        for suite in suites
    ]
    console = boot(kernel, root, busybox, results, "\n".join(script), seconds)
    (results / "console").write_text(console)
    return {suite: _read(results / f"{suite}.xml") for suite in suites}


def _fetch(release: str, architecture: str, directory: Path, *packages: str) -> None:
    command: list[str | Path] = [TOP / "tests/suite.sh", f"{release}/{architecture}", directory]
    subprocess.run([*command, *packages], check=True)


def _read(report: Path) -> Outcome:
    """What pytest wrote to REPORT; it does so at the end."""
    if not report.exists():
        return Outcome()
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed, skipped = [], []
    for case in cases:
        if (skip := case.find("skipped")) is not None:
            skipped.append(skip.get("message", ""))
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", ""))
    return Outcome(len(cases) - len(failed) - len(skipped), tuple(failed), tuple(skipped))


if __name__ == "__main__":
    sys.exit(main())
