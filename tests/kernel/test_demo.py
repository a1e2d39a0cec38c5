"""`ovl-linkd demo`, for real: it tells the truth, and it leaves nothing behind however it ends."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

import ovl_linkd
from ovl_linkd.overlay import mounting
from tests.waiting import PATIENCE

PACKAGES = Path(ovl_linkd.__file__).parents[1]
PATHS = ("/run/ctrdl", "/run/demo.yaml", "/run/ovl-linkd", "/run/merged", "/var/lib/containerd")
HAS_SMALL_PAGES = os.sysconf("SC_PAGE_SIZE") == 4096


class Demo:
    """A demo that runs, with a mark in the environment of all that it starts."""

    def __init__(self) -> None:
        self.mark = f"DEMO_MARK={uuid.uuid4()}"
        self.process = subprocess.Popen(
            _command(),
            env=_environment() | dict([self.mark.split("=")]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def read_until(self, text: str) -> None:
        """Read standard output up to a line with TEXT in it."""
        assert self.process.stdout
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"the demo ended before it said {text!r}")

    def storyteller(self) -> int:
        """The first process of the demo's namespaces, by its id outside."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def processes(self) -> set[int]:
        """All that carry the mark, apart from the command itself."""
        found = set()
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                environment = (directory / "environ").read_bytes()
            except OSError:
                continue
            if self.mark.encode() in environment.split(b"\0"):
                found.add(int(directory.name))
        return found - {self.process.pid}


@pytest.fixture
def demo() -> Iterator[Demo]:
    running = Demo()
    yield running
    with running.process as process:
        process.kill()


@pytest.fixture(autouse=True)
def _the_disk_is_as_it_was() -> Iterator[None]:
    before = [os.path.lexists(path) for path in PATHS]
    yield
    assert [os.path.lexists(path) for path in PATHS] == before


@pytest.mark.needs("root")
def test_it_tells_the_whole_story() -> None:
    """Each claim of the README stands in its output, as a number that was counted just then."""
    done = _run()

    assert (done.returncode, done.stderr) == (0, "")
    story = done.stdout
    assert "\033" not in story, "colours are for terminals"
    if HAS_SMALL_PAGES:
        assert "✘ 9,948 bytes given: No such file or directory" in story
        assert "✘ 9,947 bytes given: “success”, with 51 of 128 layers" in story
    assert "/run/ctrdl -> /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/" in story
    assert "✔ 9,947 bytes became 2,407: mounted, 128 of 128 layers, each in its place" in story
    assert re.search(r"✔ /run/ctrdl was removed, and put back by the daemon in [\d,]+ µs", story)
    assert re.search(r"rm 20 times more: gone for [\d,]+ µs \(median\), [\d,]+ µs at most", story)
    assert "never noticed: all 128 layers are there" in story
    assert re.search(r"ctrdl +ok +/run/ctrdl .* 22 .* missing [\d,]+ µs", story)
    assert story.index("ready after") < story.index("128 of 128") < story.index("was removed")


@pytest.mark.needs("root", "systemd-tmpfiles", "tmpreaper")
@pytest.mark.parametrize("missing", [[], ["systemd-tmpfiles"], ["systemd-tmpfiles", "tmpreaper"]])
def test_the_link_comes_back_after_whichever_cleaner_is_there(missing: list[str]) -> None:
    """The best known one is used; where none is installed, that is said."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    hidden = [str(shutil.which(name, path=path)) for name in missing]
    for program in hidden:
        mounting.mount("/dev/null", program, "", mounting.MS_BIND)
    try:
        done = _run()
    finally:
        for program in hidden:
            mounting.umount(program)

    used = ["systemd-tmpfiles --clean", "tmpreaper", "rm /run/ctrdl"][len(missing)]
    assert (done.returncode, done.stderr) == (0, "")
    assert f"$ {used}" in done.stdout
    assert "/run/ctrdl was removed, and put back" in done.stdout


@pytest.mark.needs("root")
@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_umask_it_is_started_with_does_not_matter(umask: int) -> None:
    """With 0 the daemon refused the demo's configuration, which everybody might have written."""
    done = _run_as(["sh", "-c", f'umask {umask:o}; exec "$@"', "sh", *_command()])

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("root")
@pytest.mark.parametrize("layers", [53, 200])
def test_any_number_of_layers_can_be_asked_for(layers: int) -> None:
    done = _run("--layers", str(layers))

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{layers} of {layers} layers, each in its place" in done.stdout
    if HAS_SMALL_PAGES:
        assert f"“success”, with 51 of {layers} layers" in done.stdout


@pytest.mark.parametrize("layers", ["52", "201", "-1", "many"])
def test_a_number_that_proves_nothing_is_refused(layers: str) -> None:
    """52 layers fit by their long names, and past 200 not even the short ones would."""
    done = _run(f"--layers={layers}")

    assert done.returncode == 2
    assert "is not a number from 53 to 200" in done.stderr


@pytest.mark.needs("root")
@pytest.mark.parametrize("moment", ["mount(2) reads", "ready after", "128 of 128", "was removed"])
def test_ctrl_c_ends_all_of_it(demo: Demo, moment: str) -> None:
    """At any moment: no daemon, no cleaner, no mount goes on; and no traceback is shown."""
    demo.read_until(moment)
    # The terminal sends it to the whole foreground group.
    os.killpg(demo.process.pid, signal.SIGINT)

    _, error = demo.process.communicate(timeout=PATIENCE)

    assert (demo.process.returncode, error) == (130, "")
    assert demo.processes() == set()


@pytest.mark.needs("root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_killing_it_ends_all_of_it(demo: Demo, number: signal.Signals) -> None:
    """Not even SIGKILL, which the command can't answer, leaves the daemon or a mount behind."""
    demo.read_until("ready after")
    # Stopped, the story can't come to its end by itself.
    os.kill(demo.storyteller(), signal.SIGSTOP)
    started = demo.processes()
    assert len(started) >= 2, "the first process of the namespaces, and the daemon"
    ends = [os.pidfd_open(pid) for pid in started]

    demo.process.send_signal(number)

    assert demo.process.wait(timeout=PATIENCE) == -number
    for end in ends:
        ended, _, _ = select.select([end], [], [], PATIENCE)
        assert ended, "a process of the demo outlived it"
        os.close(end)
    assert demo.processes() == set()


@pytest.mark.needs("root", "unshare")
def test_no_mount_gets_out_where_mounts_are_shared() -> None:
    """With systemd, what is mounted in one namespace appears in all, unless it is made private."""
    script = 'cat /proc/self/mountinfo; echo --; "$@" >&2 && cat /proc/self/mountinfo'
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "shared", "sh", "-c", script, "sh", *_command()],
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    before, after = done.stdout.split("--\n")
    assert after == before
    assert "128 of 128" in done.stderr


@pytest.mark.needs("root")
def test_a_real_store_is_neither_seen_nor_touched() -> None:
    """The node may have a containerd of its own; and the checkout may lie beside it."""
    mounting.mount("x", "/var/lib", "tmpfs", 0, b"mode=0755")
    try:
        shutil.copytree(PACKAGES, "/var/lib/ci/checkout")
        os.makedirs("/var/lib/containerd/precious")
        before = sorted(Path("/var/lib").rglob("*"))
        done = subprocess.run(
            _command(),
            env=_environment() | {"PYTHONPATH": "/var/lib/ci/checkout"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "128 of 128" in done.stdout
        assert sorted(Path("/var/lib").rglob("*")) == before
    finally:
        mounting.umount("/var/lib")


@pytest.mark.needs("root", "script")
@pytest.mark.parametrize("no_color", [False, True])
def test_colours_on_a_terminal_unless_they_are_not_wanted(no_color: bool) -> None:
    environment = _environment() | ({"NO_COLOR": "1"} if no_color else {})
    environment["TERM"] = "xterm-256color"
    done = subprocess.run(
        ["script", "-qec", " ".join(_command()), "/dev/null"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ("\033[32m✔\033[0m" in done.stdout) != no_color
    assert ("\033[" in done.stdout) != no_color


@pytest.mark.needs("root", "systemd-tmpfiles")
@pytest.mark.skipif(not HAS_SMALL_PAGES, reason="needs pages of 4,096 bytes")
def test_the_picture_in_the_documentation_shows_what_the_demo_says() -> None:
    """But for the numbers that differ from run to run; docs/record_demo.py draws it anew."""
    docs = Path(__file__).parents[2] / "docs"
    new = _run_as([sys.executable, "-I", str(docs / "record_demo.py"), *_command()])

    assert new.stderr == ""
    said = _drawn_text(new.stdout)
    assert _drawn_text((docs / "demo.svg").read_text()) == said
    assert said.count("✔") == 5


def _drawn_text(picture: str) -> str:
    """What a picture says between its prompt and what `status` prints, numbers as 0."""
    _prompt, *lines = [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)<", picture)]
    story = "\n".join(lines).partition("$ ovl-linkd status")[0]
    return re.sub(r"\d[\d,]*", "0", story.partition("An image")[2])


@pytest.mark.needs("root")
def test_output_that_nobody_takes_ends_it_without_a_traceback() -> None:
    """A pager that is left early, and a full disk."""
    reading, writing = os.pipe()
    os.close(reading)
    for output, said in ((writing, ""), (os.open("/dev/full", os.O_WRONLY), "No space left")):
        done = subprocess.run(
            _command(),
            env=_environment(),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(output)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def readable() -> Iterator[list[str]]:
    """The command, from places where everybody may read, wherever the checkout lies."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        parts = {"python": sys.prefix, "checkout": str(PACKAGES.parent)}
        for name, source in parts.items():
            os.mkdir(f"{directory}/{name}")
            mounting.mount(source, f"{directory}/{name}", "", mounting.MS_BIND)
        environment = f"PYTHONPATH={directory}/checkout/{PACKAGES.name}"
        python = f"{directory}/python/bin/{os.path.basename(sys.executable)}"
        yield ["env", environment, python, "-m", "ovl_linkd", "demo"]
        for name in parts:
            mounting.umount(f"{directory}/{name}", lazy=True)


@pytest.mark.needs("root", "setpriv")
def test_an_ordinary_user_sees_the_story_or_what_is_missing(readable: list[str]) -> None:
    """Where user namespaces are allowed, root isn't needed at all."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = _run_as([*nobody, *readable])

    if done.returncode == 0:
        assert "128 of 128 layers, each in its place" in done.stdout
        assert done.stderr == ""
    else:
        _says_what_is_missing(done)
        assert "hint: run it as root: sudo ovl-linkd demo" in done.stderr


@pytest.mark.needs("root", "setpriv", "unshare")
def test_root_of_a_container_that_may_not_mount_is_told_so(readable: list[str]) -> None:
    """Without CAP_SYS_ADMIN, and where no further user namespace can be made."""
    forbid = "echo 0 >/proc/sys/user/max_user_namespaces"
    weaken = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    done = _run_as(["unshare", "-Ur", "sh", "-c", f'{forbid}; exec "$@"', "sh", *weaken, *readable])

    assert done.returncode == 1
    _says_what_is_missing(done)
    assert "user.max_user_namespaces" in done.stderr
    assert "hint: a container needs to be privileged" in done.stderr


def _says_what_is_missing(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("ovl-linkd demo: may not mount here")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run_as([*_command(), *arguments])


def _run_as(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)


def _command() -> list[str]:
    return [sys.executable, "-m", "ovl_linkd", "demo"]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return kept | {"PYTHONPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"}
