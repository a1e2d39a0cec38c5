"""What every test may count on: the machine's needs by name, a clean place, nothing left behind.

Run as root, the whole session has a mount namespace and an empty /run of its own. What a test
mounts goes away with it even if pytest is killed; the rest of the machine is neither seen nor
disturbed, and the product's default paths, all of them below /run, may be used as they are.
"""

import contextlib
import ctypes
import gc
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from ovl_linkd import __version__
from tests.kernel.world import features
from tests.userland import DEBIAN_12, DEBIAN_13, TOP, Userland
from tests.waiting import PATIENCE

CI = os.environ.get("CI") == "true"
ROOT = os.geteuid() == 0

_CLONE_NEWNS = 0x20000  # linux/sched.h
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h
_MNT_DETACH = 2  # linux/fs.h

for _profile, _examples in {"few": 5, "dev": 50, "ci": 100, "soak": 10_000}.items():
    settings.register_profile(
        _profile,
        max_examples=_examples,
        # A busy machine must not fail a test that is right.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
        derandomize=_profile == "ci",
        print_blob=True,
    )
settings.load_profile("ci" if CI else "dev")


# --- a place of one's own --------------------------------------------------------------------


def _call(name: str, *arguments: object) -> None:
    """One call of the C library; OSError where it fails. os.unshare is Python 3.12's."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _place_of_this_run() -> str:
    """A directory that says whose it is, so that what a killed run has left can go."""
    for left in Path(tempfile.gettempdir()).glob("ovl-linkd-tests-*-*"):
        if not Path("/proc", left.name.split("-")[3]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"ovl-linkd-tests-{os.getpid()}-")


def pytest_configure(config: pytest.Config) -> None:
    directory = _place_of_this_run()
    config.add_cleanup(lambda: shutil.rmtree(directory))
    # Hypothesis keeps what it learns in the working directory, unless it is told another one.
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{directory}/hypothesis"
    # What `make install` builds takes ten seconds of a processor: once is enough. With xdist, for
    # all workers.
    os.environ.setdefault("OVL_LINKD_BUILT", f"{directory}/built")


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    # Under nohup, or behind a shell's &, these come ignored, and every program of a test would
    # inherit that (signal(7)).
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # What a test's program forks and forgets becomes our child, and is found.
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if ROOT:
        _call("unshare", _CLONE_NEWNS)
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        _call("mount", b"tmpfs", b"/run", b"tmpfs", 0, b"mode=0755")


_scratch_number = itertools.count(1)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A fresh directory on a tmpfs, root's alone, with a path as short as `/run/7`.

    Short, because what is tested is what fits into 4,095 bytes. Mounts that are left below it
    are taken off, then it is removed with all that it holds. Skips without root.
    """
    if not ROOT:
        pytest.skip("needs root")
    directory = Path(f"/run/{next(_scratch_number)}")
    directory.mkdir(mode=0o755)
    yield directory
    for mount in reversed(_mounts()):
        if mount.point == str(directory) or mount.point.startswith(f"{directory}/"):
            _call("umount2", os.fsencode(mount.point), _MNT_DETACH)
    shutil.rmtree(directory)


def _made(userland: Path) -> Path:
    if not ROOT:
        pytest.skip("needs root")
    assert userland.is_dir(), f"{userland} is made by: make setup-test"
    return userland


@pytest.fixture(scope="session")
def debian12() -> Path:
    """As debian13, of the release before."""
    return _made(DEBIAN_12)


@pytest.fixture(scope="session")
def debian13() -> Path:
    """The files of a small Debian 13, a layer to put others over. Skips without root.

    Not to be written to: every test has the same one.
    """
    return _made(DEBIAN_13)


@pytest.fixture
def userland(debian13: Path, scratch: Path) -> Userland:
    """That Debian 13, to run programs in."""
    place = scratch / "debian-13"
    place.mkdir()
    return Userland(debian13, place)


# --- the Debian package ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy: root must leave nothing of its own in a checkout."""
    copy = tmp_path_factory.mktemp("deb") / "checkout"
    copy.mkdir()
    names = ["config", "daemon", "docs", "systemd", "Makefile", "pyproject.toml"]
    documents = [path.name for path in TOP.glob("*.md")]
    subprocess.run(["cp", "-a", *names, *documents, "LICENSE", copy], cwd=TOP, check=True)
    done = subprocess.run(
        ["make", "deb"],
        cwd=copy,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        | {"SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = copy.glob("build/*.deb")
    assert built.name == f"ovl-linkd_{__version__}_all.deb"
    return built


# --- a skip is never silent ------------------------------------------------------------------


def _lacking(what: str) -> str | None:
    """Why `what` (`root`, a feature of the kernel or a command) can't be had here, if it can't."""
    if what == "root":
        return None if ROOT else "needs root"
    if what == "lowerdir+":
        return None if ROOT and features().one_by_one else "needs lowerdir+, of Linux 6.7"
    if what == "descriptors":
        return None if ROOT and features().descriptors else "needs layers as descriptors, of 6.13"
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return None if shutil.which(what, path=path) else f"needs the command {what}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    reasons = [
        reason
        for marker in item.iter_markers("needs")
        for what in marker.args
        if (reason := _lacking(what))
    ]
    if reasons:
        pytest.skip(", ".join(reasons))


def _insist(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Under CI=true makes a failure of a skip, and leaves an expected failure as it is."""
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}\nskipped, and CI=true allows no skip: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _insist(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _insist(report)
    return report


# --- nothing is left behind ------------------------------------------------------------------


class _Mount(NamedTuple):
    number: int
    point: str


def _mounts() -> list[_Mount]:
    """The mounts of this namespace, in the order in which they were made."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [_Mount(int(line.split()[0]), _unescaped(line.split()[4])) for line in lines]


def _unescaped(field: bytes) -> str:
    """A field of mountinfo, whose blanks and backslashes are octal escapes, as a path."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), field))


def _children() -> dict[int, str]:
    """This process's children by process id, each with its state: a letter, Z once it is dead."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that was joined ends a moment later
            for pid in map(int, (task / "children").read_text().split()):
                found[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return found


def _left_running(before: Collection[int]) -> set[int]:
    """The children that weren't there before and run; those that are dead are reaped."""
    children = {pid: state for pid, state in _children().items() if pid not in before}
    for pid, state in children.items():
        if state == "Z":
            os.waitpid(pid, 0)
    return {pid for pid, state in children.items() if state != "Z"}


def _still_running(before: Collection[int], seconds: float) -> set[int]:
    """As _left_running, once what has been told to end has had some seconds to do so."""
    deadline = time.monotonic() + seconds
    while (left := _left_running(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _command_line(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return f"process {pid} ({os.fsdecode(b' '.join(words))})"


def _end(pids: Iterable[int], before: Collection[int]) -> None:
    """Kills these, and then whatever comes to us as their orphan."""
    waiting = set(pids)
    while waiting:
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
        waiting = _still_running(before, seconds=0.1)


def _descriptors() -> set[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that this listing itself used
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return found


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fails a test after which a process runs, a mount is there or a file is open that wasn't.

    What the test's own fixtures take away is gone by then: this one is set up before them.
    """
    children, mounts, descriptors = set(_children()), set(_mounts()), _descriptors()
    yield
    left = []
    if processes := _still_running(children, seconds=PATIENCE):
        left += [_command_line(pid) for pid in processes]
        _end(processes, children)
    for mount in reversed([mount for mount in _mounts() if mount not in mounts]):
        left.append(f"a mount at {mount.point}")
        _call("umount2", os.fsencode(mount.point), _MNT_DETACH)
    if _descriptors() - descriptors:
        gc.collect()
    left += [f"descriptor {number}: {what}" for number, what in _descriptors() - descriptors]
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)
