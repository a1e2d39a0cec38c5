"""`ovl-linkd doctor` as it is called: the exit code, what programs read, what people see."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ovl_linkd
from ovl_linkd.commands import doctor, doctor_text
from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, UNKNOWN, WRONG, Finding
from ovl_linkd.overlay.limits import capacity, of_this_kernel
from tests.kernel.world import (
    SHORT,
    SNAPSHOTS,
    in_a_private_world,
    joined,
    make_layers,
    make_upper,
    mount_as_it_stands,
)

DAEMON = str(Path(ovl_linkd.__file__).parents[1])
LEVELS = {OK, NOTE, MAYBE, WRONG, UNKNOWN}
CONCERNS = [
    *("kernel", "mount(8)", "links", "cleaners", "containerd"),
    *("units", "exec", "fstab", "inotify", "mounts"),
]


# What else runs on the machine, containers with mounts of their own above all, is not to be seen.
ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALONE, sys.executable, "-W", "error", "-m", "ovl_linkd", "doctor", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": DAEMON, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        cwd="/",
    )


def config(text: str = "{}") -> str:
    Path("/run/c.yaml").write_text(text)
    Path("/run/c.yaml").chmod(0o644)
    return "/run/c.yaml"


def findings(concern: str, done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    said = json.loads(done.stdout)
    return [one for one in said["findings"] if one["concern"] == concern]


@pytest.mark.needs("root")
@in_a_private_world
def test_a_cleaner_that_would_empty_the_farm() -> None:
    """And its ledger: with both gone, an id could come back within a boot."""
    rules = Path("/run/tmpfiles.d/clean.conf")
    rules.parent.mkdir()
    rules.write_text("d /run - - - am:10d\n")
    file = config("farm: {path: /run/ctrdf}\nlinks: {}\n")

    def removed() -> list[str]:
        done = call("--json", "--config", file)
        return [one["what"] for one in findings("cleaners", done) if "/run/" in one["what"]]

    assert removed() == [
        "systemd-tmpfiles removes /run/ctrdf/* once it is 10d old",
        "systemd-tmpfiles removes /run/.ctrdf.ovl-linkd-farm once it is 10d old",
    ]
    lines = subprocess.run(
        [sys.executable, "-m", "ovl_linkd", "tmpfiles", "--config", file],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": DAEMON},
        check=True,
    ).stdout
    Path("/run/tmpfiles.d/ovl-linkd.conf").write_text(lines)
    assert removed() == []


@pytest.mark.needs("root")
@in_a_private_world
def test_the_whole_story_for_programs() -> None:
    """A link that is missing and a mount that was cut; then the link is put right."""
    upper, work = make_upper(99)
    ids = [*range(10_003, 9_999, -1), *range(9_999, 9_875, -1)]
    options = b"%s,upperdir=%s,workdir=%s" % (joined(make_layers(ids)), upper, work)
    assert mount_as_it_stands(options) == 0
    link = f"links: {{l: {{path: {SHORT.decode()}, target: {SNAPSHOTS.decode()}}}}}"

    done = call("--json", "--config", config(link))

    assert (done.returncode, done.stderr) == (1, "")
    said = json.loads(done.stdout)
    assert (said["schema_version"], said["ok"]) == (1, False)
    assert list(dict.fromkeys(one["concern"] for one in said["findings"])) == CONCERNS
    for one in said["findings"]:
        assert list(one) == ["concern", "level", "what", "why", "mend"]
        assert one["level"] in LEVELS
        elsewhere = "(in the namespace of" in one["what"]  # of somebody else's on this machine
        assert one["mend"] or elsewhere or one["level"] not in (WRONG, MAYBE), one
    assert [one["level"] for one in findings("links", done)] == [WRONG, MAYBE]
    assert any("/run/merged" in one["what"] for one in findings("mounts", done))

    os.symlink(SNAPSHOTS, SHORT)
    one, running = findings("links", call("--json", "--config", config(link)))
    assert one["level"] == OK
    assert running["what"] == "the daemon is not running"
    plain, short = (capacity(each, of_this_kernel()) for each in (SNAPSHOTS, SHORT))
    assert f"{plain} layers by the long names, {short} through /run/ctrdl" in one["what"]


@pytest.mark.needs("root")
@in_a_private_world
def test_a_faulty_configuration_is_a_finding_and_no_end() -> None:
    """The doctor is called when something is wrong; it must not need that everything is right."""
    done = call("--json", "--config", config("lnks: {}"))
    assert (done.returncode, done.stderr) == (1, "")
    (one,) = findings("links", done)
    assert one["what"].startswith("the configuration is faulty: /run/c.yaml:1:1: unknown key")
    assert len(findings("kernel", done)) > 1


@pytest.mark.needs("root")
@in_a_private_world
def test_people_see_groups_and_a_last_line_that_counts() -> None:
    link = "links: {l: {path: /run/l, target: /usr}}"
    done = call("--config", config(link))
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in CONCERNS] == CONCERNS
    assert "  wrong     link l is missing: nothing at /run/l" in lines
    assert "            to do: systemctl enable --now ovl-linkd" in lines
    assert lines[-1].split(", ")[0].endswith("to mend")
    assert "\x1b" not in done.stdout


def test_the_exit_code_is_about_what_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cron job that cries at each `maybe` is soon ignored."""

    class Options:
        config = None
        json = True

    for level in LEVELS:
        monkeypatch.setattr(doctor, "examine", lambda _, one=level: [("x", [Finding(one, "y")])])
        assert doctor.run(Options()) == (level == WRONG)  # type: ignore[arg-type]


ALL = [("x", [Finding(level, f"a {level}", "why \x1b[2J", "mend\nit") for level in sorted(LEVELS)])]


def on_a_terminal(**environment: str) -> str:
    """What report() makes of ALL where standard output is a terminal."""
    script = (
        "from ovl_linkd.commands.doctor_text import report\n"
        "from ovl_linkd.doctor.finding import Finding\n"
        f"print(report({ALL!r}))"
    )
    ours, theirs = pty.openpty()
    program = [sys.executable, "-c", script]
    env = {**os.environ, "PYTHONPATH": DAEMON, **environment}
    subprocess.run(program, stdout=theirs, env=env, check=True)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:
        pass  # EIO is how a terminal says that nobody is at the other end
    os.close(ours)
    return text.decode()


def test_a_terminal_gets_marks_and_colour_unless_it_wants_none() -> None:
    assert "\x1b[31m  ✘ wrong   a wrong\x1b[0m" in on_a_terminal()
    assert "\x1b" not in on_a_terminal(NO_COLOR="1")
    assert "  wrong     a wrong" in on_a_terminal(NO_COLOR="1")


def test_what_a_path_holds_can_t_steer_a_terminal() -> None:
    text = doctor_text.report(ALL)
    assert "\x1b" not in text
    assert r"why \x1b[2J" in text
    assert r"mend\nit" in text
    assert text.splitlines()[-1] == "1 to mend, 1 to look at, 1 could not be looked into"


@pytest.mark.needs("root")
@in_a_private_world
def test_without_root_it_says_what_it_could_not_look_into() -> None:
    """And still looks at the rest: a process of root's has mounts that nobody else may see."""
    file = config()
    script = (
        "import sys, os, io, json, ctypes, shutil, subprocess, yaml, jsonschema, tomllib\n"
        "from ovl_linkd import cli, config\n"
        "from ovl_linkd.commands import doctor, doctor_text\n"
        f"config.load({file!r}); doctor.examine({file!r})\n"  # so that all is imported
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"sys.exit(cli.main(['doctor', '--json', '--config', {file!r}]))\n"
    )
    env = {**os.environ, "PYTHONPATH": DAEMON}
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], capture_output=True, text=True, env=env, check=False
    )
    assert done.stderr == ""
    (one,) = [one for one in findings("mounts", done) if one["level"] == UNKNOWN]
    assert one["mend"] == "run it as root"
    assert "root's limits" in findings("inotify", done)[-1]["what"]


def test_what_one_concern_stumbles_over_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> list[Finding]:
        raise RecursionError("too deep")

    monkeypatch.setattr("ovl_linkd.doctor.fstab.findings", stumble)
    monkeypatch.setattr("ovl_linkd.machine.containerd.others", stumble)
    for where in ("kernel", "mount8"):  # not what this is about
        monkeypatch.setattr(f"ovl_linkd.doctor.{where}.findings", list)
    groups = dict(doctor.examine(None))
    assert list(groups) == CONCERNS
    for name in ("fstab", "containerd", "units"):
        (one,) = groups[name]
        assert one.level == UNKNOWN
        assert one.what == f"{name} could not be looked into: RecursionError: too deep"
    assert groups["mounts"]
    assert groups["cleaners"]
