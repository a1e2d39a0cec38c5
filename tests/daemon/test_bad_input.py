"""What a person gets wrong, and what a machine lacks: one clear line, nothing touched, no end."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.commands.run import FAULTY
from tests.daemon.world import ENVIRONMENT, PYTHON, Daemon, command
from tests.others import NOBODY, as_user
from tests.waiting import PATIENCE

pytestmark = pytest.mark.needs("root")


def _complains(run: "subprocess.CompletedProcess[str]", code: int = 1) -> str:
    """Check the form of a complaint; what it says."""
    assert run.returncode == code, run.stderr
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    assert all(line.startswith("ovl-linkd run: ") for line in lines[:-1]), run.stderr
    assert lines[-1].startswith("  hint: ")
    return run.stderr


@pytest.fixture
def tree(scratch: Path) -> Path:
    """A target, and a configuration of one link to it: `scratch`/link -> `scratch`/t."""
    (scratch / "t").mkdir()
    _write(scratch, "link", "t")
    return scratch


def _write(top: Path, path: str, target: str) -> Path:
    config = top / "config.yaml"
    link = {"path": str(top / path), "target": str(top / target)}
    config.write_text(json.dumps({"control-socket": f"{top}/sock", "links": {"one": link}}))
    return config


def _run(top: Path) -> "subprocess.CompletedProcess[str]":
    return command("run", "--config", top / "config.yaml")


def test_a_configuration_that_was_named_and_is_missing(tree: Path) -> None:
    (tree / "config.yaml").unlink()
    said = _complains(_run(tree), FAULTY)
    assert f"{tree}/config.yaml" in said
    assert "No such file" in said
    assert sorted(os.listdir(tree)) == ["t"]


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_a_configuration_that_is_no_file(tree: Path, kind: str) -> None:
    config = tree / "config.yaml"
    config.unlink()
    config.mkdir() if kind == "directory" else os.mkfifo(config)
    assert str(config) in _complains(_run(tree), FAULTY)


def test_a_configuration_that_may_not_be_read(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from ovl_linkd import cli

    config = tree / "config.yaml"
    config.chmod(0o600)
    for name, code in (("check", 1), ("status", 4), ("repair", 4)):
        words = [name, "--config", str(config)]
        assert as_user(NOBODY, lambda words=words: cli.main(words)) == code  # type: ignore[misc]
        said = capfd.readouterr()
        assert said.out == ""
        assert f"{config}" in said.err
        assert "Permission denied" in said.err
        assert "Traceback" not in said.err


def test_every_error_of_a_configuration_comes_at_once(tree: Path) -> None:
    (tree / "config.yaml").write_text("lings: {}\nresync-interval: soon\nlinks: {one: {path: x}}\n")
    said = _complains(_run(tree), FAULTY)
    for line in (1, 2, 3):
        assert f"config.yaml:{line}:" in said
    assert sorted(os.listdir(tree)) == ["config.yaml", "t"]


def test_a_parent_directory_of_others_is_refused(tree: Path) -> None:
    (tree / "theirs").mkdir()
    os.chown(tree / "theirs", NOBODY, NOBODY)
    _write(tree, "theirs/link", "t")
    said = _complains(_run(tree), FAULTY)
    assert "belongs to user 65534" in said
    assert "allow-unsafe-parent" in said
    assert os.listdir(tree / "theirs") == []


def test_a_link_path_that_is_taken_by_a_directory_with_files(daemon: Daemon, tree: Path) -> None:
    """No reason not to start: the other links are kept, and this one as soon as it can be."""
    (tree / "link").mkdir()
    (tree / "link/file").write_text("precious")
    daemon.write({"one": (tree / "link", tree / "t"), "two": (tree / "two", tree / "t")})
    daemon.start()
    states = [link["state"] for link in daemon.call("Status")["links"]]
    assert states == ["blocked", "ok"]
    assert "a directory is at" in daemon.log()
    assert (tree / "link/file").read_text() == "precious"


def test_a_target_that_is_a_file(daemon: Daemon, tree: Path) -> None:
    (tree / "file").write_text("precious")
    daemon.write({"one": (tree / "link", tree / "file")})
    daemon.start()
    link = daemon.link("one")
    assert (link["state"], link["target_exists"]) == ("dangling", False)
    assert "not a directory" in link["reason"]
    assert (tree / "file").read_text() == "precious"


def _in_a_user_namespace(script: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run the shell SCRIPT as root of a user namespace, whose limits are its own affair."""
    run = subprocess.run(
        ["unshare", "--user", "--map-root-user", "/bin/sh", "-ec", script, "sh", *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    if "unshare failed" in run.stderr:
        pytest.skip("needs user namespaces")
    return run


@pytest.mark.needs("unshare")
def test_no_inotify_instance_left(tree: Path) -> None:
    """128 a user by default (fs.inotify.max_user_instances); desktops and IDEs use them up."""
    run = _in_a_user_namespace(
        'echo 0 >/proc/sys/user/max_inotify_instances; exec "$@"',
        *PYTHON, "-m", "ovl_linkd", "run", "--config", tree / "config.yaml",
    )  # fmt: skip
    said = _complains(run)
    assert "no inotify instance to be had" in said
    assert "fs.inotify.max_user_instances" in said
    assert sorted(os.listdir(tree)) == ["config.yaml", "t"]


@pytest.mark.needs("unshare")
def test_no_inotify_watch_left(daemon: Daemon, tree: Path) -> None:
    """Then the safety net is all there is, and it says so."""
    daemon.write({"one": (tree / "link", tree / "t")}, resync_interval="1s")
    script = 'echo 0 >/proc/sys/user/max_inotify_watches; exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "/bin/sh", "-ec", script, "sh"]
    daemon.start(python=[*prefix, *PYTHON])
    assert "can't watch" in daemon.log()
    assert daemon.link("one")["state"] == "ok"
    with daemon.repairing("one", "missing"):
        os.unlink(tree / "link")


def _without_capabilities() -> list[str]:
    """As a hardened unit runs it: root, but nothing more than what root owns."""
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *PYTHON]


@pytest.mark.needs("setpriv")
def test_no_permission_on_the_parent(daemon: Daemon, tree: Path) -> None:
    (tree / "p").mkdir(mode=0o555)
    daemon.write({"one": (tree / "p/link", tree / "t"), "two": (tree / "two", tree / "t")})
    daemon.start(python=_without_capabilities())
    link = daemon.link("one")
    assert link["state"] == "failing"
    assert "Permission denied" in link["reason"]
    assert f"may write {tree}/p" in link["remedy"]
    assert daemon.link("two")["state"] == "ok"
    with daemon.repairing("one", "missing"):
        (tree / "p").chmod(0o755)


@pytest.mark.needs("setpriv")
def test_a_directory_that_can_t_be_watched_can_t_forge_a_line_of_the_log(
    daemon: Daemon, tree: Path
) -> None:
    """A symlink on the way of the target is somebody else's, and leads where that one likes."""
    evil = tree / "x\n<3>ovl-linkd: all is lost \x1b[2J"
    (evil / "t").mkdir(parents=True)
    os.chown(evil, NOBODY, NOBODY)
    evil.chmod(0o711)
    (tree / "way").symlink_to(evil.name)
    daemon.write({"one": (tree / "link", tree / "way/t")})
    daemon.start(python=_without_capabilities())
    log = daemon.log()
    assert "can't watch" in log
    assert "\x1b" not in log
    assert not any(line.startswith("<3>ovl-linkd: all is lost") for line in log.splitlines())


def test_a_control_socket_that_can_t_be_made_costs_no_link(tree: Path, daemon: Daemon) -> None:
    (tree / "file").touch()
    daemon.write({"one": (tree / "link", tree / "t")}, control_socket=str(tree / "file/sock"))
    daemon.start()
    assert os.readlink(tree / "link") == str(tree / "t")
    assert "no control socket" in daemon.log()


def test_standard_error_that_is_closed_costs_no_link(tree: Path) -> None:
    """`ovl-linkd run 2>&-`, or a journald that went away."""
    reading, writing = os.pipe()
    os.close(reading)
    notify = tree / "notify"

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(notify))
        ready.settimeout(PATIENCE)
        with subprocess.Popen(
            [*PYTHON, "-m", "ovl_linkd", "run", "--config", tree / "config.yaml"],
            env=ENVIRONMENT | {"NOTIFY_SOCKET": str(notify)},
            cwd="/",
            stderr=writing,
        ) as process:
            os.close(writing)
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
                process.terminate()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
    assert os.readlink(tree / "link") == str(tree / "t")
