"""`ovl-linkd-runc` with the real runc: containers that see all of their layers, in order."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovl_linkd.oci_runtime.bundle import NAME
from tests.bundles import LOOK, Bundle, seen
from tests.intercept.world import World
from tests.kernel.world import all_of, joined
from tests.manuals import told, typed

CONFIG = Path("/run/ovl-linkd/config.yaml")
RUNTIMES = ("runc", "crun")

pytestmark = pytest.mark.needs("root", *RUNTIMES)


@pytest.fixture
def bundle(scratch: Path) -> Iterator[Bundle]:
    world = World(scratch)
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(world.config.read_text())
    CONFIG.chmod(0o644)
    yield Bundle(world)
    CONFIG.unlink()


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What was said, without anything having been run."""
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.fixture
def cgroups_of_crun(bundle: Bundle) -> Iterator[None]:
    """The one version of cgroups with which crun can do anything, where there are both."""
    cgroups = Path("/sys/fs/cgroup")
    hybrid = not (cgroups / "cgroup.procs").exists()
    if hybrid:
        subprocess.run(["mount", "-t", "cgroup2", "none", cgroups], check=True)
    bundle.more = ["--cgroup-manager=disabled"]
    yield
    if hybrid:
        subprocess.run(["umount", cgroups], check=True)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param == "crun":
        request.getfixturevalue("cgroups_of_crun")
    return str(request.param)


def test_128_layers_are_mounted_in_order_and_the_bundle_stays_as_it_was(
    bundle: Bundle, runtime: str
) -> None:
    """Runtimes clip the options at a page: the container fails, or sees other layers."""
    ids, options = bundle.long_options()
    text = bundle.config(["nosuid", *options])
    alone = bundle.run("run", "x", program=runtime)
    assert alone.returncode != 0 or seen(alone.stdout) != all_of(ids)

    done = bundle.run("run", "x", OVL_LINKD_RUNTIME=runtime)
    assert (done.returncode, done.stderr) == (0, "")
    assert seen(done.stdout) == all_of(ids)
    assert (bundle.directory / "config.json").read_bytes() == text
    assert set(os.listdir(bundle.directory)) == {NAME, "config.json", "rootfs"}


def test_a_container_lives_as_it_would_without_the_wrapper(bundle: Bundle, runtime: str) -> None:
    """created, started, looked at, entered and deleted; then the next one from the same bundle."""
    _, options = bundle.long_options()
    hook = bundle.world.place / "hook"
    hook.write_text(f"#!/bin/sh\ncat >{bundle.world.place}/told\n")
    hook.chmod(0o755)
    bundle.config(
        options, ["/bin/busybox", "sleep", "600"], hooks={"createRuntime": [{"path": str(hook)}]}
    )
    for name in ("one", "two"):
        pid_file = bundle.world.place / f"{name}.pid"
        words = ("create", "--bundle", str(bundle.directory), "--pid-file", str(pid_file), name)
        created = bundle.run(*words, OVL_LINKD_RUNTIME=runtime)
        assert created.returncode == 0, created.stderr
        try:
            told = json.loads((bundle.world.place / "told").read_text())
            state = json.loads(bundle.run("state", name, program=runtime).stdout)
            assert state["bundle"] == told["bundle"]
            used = Path(state["bundle"])
            assert used == bundle.directory / (NAME if runtime == "runc" else "")
            assert (used / "rootfs/bin/busybox").exists()
            assert bundle.run("start", name, OVL_LINKD_RUNTIME=runtime).returncode == 0
            inside = bundle.run("exec", name, "/bin/busybox", "ls", "/m", program=runtime)
            assert (inside.returncode, inside.stdout) == (0, "only\npair\n")
        finally:
            deleted = bundle.run("delete", "--force", name, OVL_LINKD_RUNTIME=runtime)
        assert (deleted.returncode, deleted.stderr) == (0, "")


@pytest.mark.parametrize("named", [(), ("--bundle", "."), ("-b", "../bundle")])
def test_paths_are_those_of_the_bundle_wherever_it_is_named_from(
    bundle: Bundle, named: tuple[str, ...]
) -> None:
    """root.path and what is bound are relative to the bundle, and runc wants no symlink as root."""
    ids, options = bundle.long_options()
    (bundle.directory / "data").mkdir()
    (bundle.directory / "data/file").write_text("mine")
    (bundle.world.place / "beside").write_text("beside")
    binds = [
        {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]},
        {"destination": "/b", "type": "none", "source": "../beside", "options": ["bind"]},
    ]
    show = f"cat /data/file; echo; cat /b; echo; {LOOK}"
    bundle.config(options, ["/bin/busybox", "sh", "-c", show], binds)
    done = bundle.run("run", *named, "x")
    assert (done.returncode, done.stderr) == (0, "")
    mine, beside, layers = done.stdout.split("\n", 2)
    assert (mine, beside, seen(layers)) == ("mine", "beside", all_of(ids))


def test_what_fits_as_it_is_goes_on_with_the_very_bundle(bundle: Bundle) -> None:
    ids, options = bundle.long_options(10)
    bundle.config(options)
    done = bundle.run("run", "x")
    assert (done.returncode, seen(done.stdout)) == (0, all_of(ids))
    assert not (bundle.directory / NAME).exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"mounts": 1}', b"[]", b"\xff\xfe"])
def test_what_is_no_bundle_gets_the_words_of_the_runtime(
    bundle: Bundle, content: bytes | None
) -> None:
    if content is not None:
        (bundle.directory / "config.json").write_bytes(content)
    done, alone = (bundle.run("run", "x", program=program) for program in (None, "runc"))
    assert alone.returncode != 0
    without_time = [re.sub(r"time=\S+ ", "", each.stderr) for each in (done, alone)]
    assert without_time[0] == without_time[1]
    assert done.returncode == alone.returncode


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        [],
        ["--root", "/r", "state", "no such", "x\ny", ""],
        ["exec", "create", "--bundle", "/b"],
        ["--no-such"],
        ["create", "--no-such-option", "\udcff"],
    ],
)
def test_every_other_call_reaches_the_runtime_as_it_is(bundle: Bundle, words: list[str]) -> None:
    echo = bundle.world.place / "echo"
    echo.write_text('#!/bin/sh\nfor each; do printf "%s\\0" "$each"; done; kill -PIPE $$\n')
    echo.chmod(0o755)
    for more, environment in (
        (["--ovl-linkd-runtime", str(echo)], {}),
        ([f"--ovl-linkd-runtime={echo}"], {"OVL_LINKD_RUNTIME": "/none"}),
        ([], {"OVL_LINKD_RUNTIME": str(echo)}),
    ):
        done = subprocess.run(
            [bundle.program, *more, *words],
            env=os.environ | environment,
            capture_output=True,
            check=False,
        )
        assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
        # And is no process below us, nor one that ignores what we do.
        assert done.returncode == -signal.SIGPIPE


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_cannot_fit_is_refused_where_an_engine_looks_for_it(
    bundle: Bundle, log_format: str
) -> None:
    """containerd and Podman read the last error in the log that they have named."""
    log = bundle.world.place / "log"
    bundle.config([joined([b"/not/under/any/link/%d" % at for at in range(400)]).decode()])
    done = bundle.run("--log", str(log), "--log-format", log_format, "create", "x")
    (said,) = refused(done).splitlines()
    assert said.startswith("ovl-linkd-runc: ")
    assert "mount(2) takes 4,095" in said
    (line,) = log.read_text().splitlines()
    assert "mount(2) takes 4,095" in (json.loads(line)["msg"] if log_format == "json" else line)
    assert bundle.run("--log", "journald:x", "create", "x").returncode == 1
    assert not (bundle.directory / "journald:x").exists(), "crun's journal is no file"
    assert not (bundle.directory / NAME).exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["lowerdir=" + "/a:" * 3000], "an empty layer at the end"),
        (["lowerdir=/" + "a" * 5000 + "\\"], "lone backslash"),
    ],
)
def test_what_is_too_long_and_malformed_is_not_clipped_either(
    bundle: Bundle, options: list[str], says: str
) -> None:
    bundle.config(options)
    done = bundle.run("run", "x")
    (said,) = refused(done).splitlines()
    assert says in said


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (lambda text: text + b"\n// by hand\n", "something follows the end of the JSON"),
        (lambda text: text.replace(b'"linux"', b'"\xff": 1, "linux"'), "not UTF-8"),
    ],
)
def test_what_runc_reads_all_the_same_is_not_clipped_either(
    bundle: Bundle, odd: Callable[[bytes], bytes], says: str
) -> None:
    """Its JSON is Go's, which stops reading where the JSON ends, and mends what is not UTF-8."""
    file = bundle.directory / "config.json"
    ids, options = bundle.long_options(10)
    file.write_bytes(odd(bundle.config(options)))
    assert seen(bundle.run("run", "x", program="runc").stdout) == all_of(ids)
    _, options = bundle.long_options()
    file.write_bytes(odd(bundle.config(options)))
    assert says in refused(bundle.run("run", "x"))


def test_what_is_too_long_to_be_read_is_not_clipped_either(bundle: Bundle) -> None:
    _, options = bundle.long_options()
    text, more = bundle.config(options), b" " * (16 << 20)
    for each in (text + more, more + text):
        (bundle.directory / "config.json").write_bytes(each)
        assert "config.json is longer than 16,777,216 bytes" in refused(bundle.run("run", "x"))


def test_who_may_read_the_one_config_may_read_the_other(bundle: Bundle) -> None:
    """A hook may run as somebody else; the umask of an engine is nobody's wish."""
    _, options = bundle.long_options()
    bundle.config(options)
    (bundle.directory / "config.json").chmod(0o644)
    assert bundle.run("run", "x", umask=0o077).returncode == 0
    made = bundle.directory / NAME / "config.json"
    assert made.stat().st_mode & 0o777 == 0o644


def test_who_may_not_read_the_one_config_may_not_read_the_other(bundle: Bundle) -> None:
    """A mode says little without the group that it speaks of, and less beside an ACL."""
    _, options = bundle.long_options()
    bundle.config(options)
    config, made = bundle.directory / "config.json", bundle.directory / NAME / "config.json"
    os.chown(config, -1, 1234)
    config.chmod(0o640)
    assert bundle.run("run", "x").returncode == 0
    assert (made.stat().st_gid, made.stat().st_mode & 0o777) == (1234, 0o640)
    # User 1235 may read, the group nothing: its place in the mode is the mask's (acl(5)).
    nobody = 0xFFFFFFFF
    entries = (1, 6, nobody), (2, 4, 1235), (4, 0, nobody), (16, 4, nobody), (32, 0, nobody)
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
    os.setxattr(config, "system.posix_acl_access", acl)
    assert bundle.run("run", "x").returncode == 0
    assert made.stat().st_mode & 0o777 == 0o640
    assert os.getxattr(made, "system.posix_acl_access") == acl


def test_two_lists_of_mounts_are_not_guessed_at(bundle: Bundle) -> None:
    text = bundle.config(["lowerdir=/a:/b"])
    (bundle.directory / "config.json").write_bytes(text[:-1] + b', "Mounts": []}')
    assert "mounts is there twice" in refused(bundle.run("run", "x"))


def test_a_link_that_is_not_well_mounts_nothing(bundle: Bundle) -> None:
    _, options = bundle.long_options()
    bundle.config(options)
    bundle.world.short.unlink()
    bundle.world.short.symlink_to("/")
    assert "link store is wrong" in refused(bundle.run("run", "x"))


def test_a_bundle_whose_path_no_json_can_hold_is_refused(bundle: Bundle) -> None:
    """Its root would become an absolute path, and another one."""
    _, options = bundle.long_options()
    bundle.config(options)
    odd = bundle.directory.rename(bundle.world.place / os.fsdecode(b"b\xff"))
    assert "not UTF-8" in refused(bundle.run("run", "-b", str(odd), "x", cwd="/"))


def test_a_directory_of_somebody_else_is_not_written_into(bundle: Bundle) -> None:
    _, options = bundle.long_options()
    bundle.config(options)
    elsewhere = bundle.world.place / "elsewhere"
    elsewhere.mkdir()
    (bundle.directory / NAME).symlink_to(elsewhere)
    assert bundle.run("run", "x").returncode == 1
    assert not os.listdir(elsewhere)
    (bundle.directory / NAME).unlink()
    (bundle.directory / NAME).mkdir()
    os.chown(bundle.directory / NAME, 1234, 1234)
    assert "somebody else's" in refused(bundle.run("run", "x"))
    assert not os.listdir(bundle.directory / NAME)


def test_a_runtime_that_is_not_installed_is_said_in_one_line(bundle: Bundle) -> None:
    for runtime, code in (("/no/such", 127), ("no-such-runtime", 127), ("/run", 126)):
        done = bundle.run("state", "x", OVL_LINKD_RUNTIME=runtime)
        assert (done.returncode, done.stdout) == (code, "")
        (said,) = done.stderr.splitlines()
        assert runtime in said
        assert "--ovl-linkd-runtime" in said


def test_it_never_becomes_itself(bundle: Bundle, tmp_path: Path) -> None:
    """Where it was put in runc's place, by its name, it started itself again and again."""
    program = Path(sys.prefix) / "bin/ovl-linkd-runc"
    (tmp_path / "runc").symlink_to(program)
    for runtime in ("", "runc", str(tmp_path / "runc"), str(program)):
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = bundle.run("state", "x", program=program, OVL_LINKD_RUNTIME=runtime, PATH=path)
        assert (done.returncode, done.stdout) == (126, "")
        (said,) = done.stderr.splitlines()
        assert "can't be executed: it is ovl-linkd-runc itself; --ovl-linkd-runtime" in said


def test_without_a_word_it_is_runc_and_crun_where_only_that_is(
    bundle: Bundle, tmp_path: Path
) -> None:
    for name in reversed(RUNTIMES):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
        done = bundle.run("state", OVL_LINKD_RUNTIME="", PATH=str(tmp_path))
        assert done.stdout == f"{name}\n"


RUNS, REWRITES = typed("ovl-linkd-runc.8")


@pytest.mark.parametrize("line", [*told("runc and other OCI runtimes"), *RUNS.splitlines()])
def test_what_readers_are_told_runs_a_container(
    bundle: Bundle, line: str, request: pytest.FixtureRequest
) -> None:
    name, *words = line.split()
    assert name == "ovl-linkd-runc"
    if "crun" in words:
        request.getfixturevalue("cgroups_of_crun")
    ids, options = bundle.long_options()
    bundle.config(options)
    done = bundle.run(*[str(bundle.directory) if x == "/srv/bundle" else x for x in words])
    assert (done.returncode, done.stderr) == (0, "")
    assert seen(done.stdout) == all_of(ids)


def test_what_readers_are_told_shows_what_it_would_do(bundle: Bundle) -> None:
    _, options = bundle.long_options()
    bundle.config(options)
    line = REWRITES.replace("/srv/bundle", str(bundle.directory))
    program = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{program}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, check=True)
    (mount,) = [each for each in json.loads(done.stdout)["mounts"] if each["type"] == "overlay"]
    assert len(",".join(mount["options"])) < 4096


@pytest.mark.usefixtures("cgroups_of_crun")
def test_another_config_of_crun_s_is_shortened_but_read_from_no_pipe(bundle: Bundle) -> None:
    """What is read from a pipe is gone: crun would get the end of it."""
    ids, options = bundle.long_options()
    bundle.config(options)
    other = (bundle.directory / "config.json").rename(bundle.world.place / "other.json")
    done = bundle.run("run", "--config", str(other), "x", OVL_LINKD_RUNTIME="crun")
    assert (done.returncode, seen(done.stdout)) == (0, all_of(ids))
    (bundle.directory / "config.json").write_bytes(other.read_bytes())
    named = ("run", "--bundle", str(bundle.directory), "--config", "config.json", "x")
    done = bundle.run(*named, cwd="/", OVL_LINKD_RUNTIME="crun")
    assert (done.returncode, seen(done.stdout)) == (0, all_of(ids)), "the bundle's, wherever we are"
    _, first, second, _ = options[-1].split(":", 3)
    reading, writing = os.pipe()
    os.write(writing, bundle.config([f"lowerdir={first}:{second}"]))
    os.close(writing)
    words = ("run", "--config", f"/dev/fd/{reading}", "x")
    done = bundle.run(*words, pass_fds=[reading], OVL_LINKD_RUNTIME="crun")
    os.close(reading)
    assert (done.returncode, seen(done.stdout).ids) == (0, sorted(ids[1:3]))
