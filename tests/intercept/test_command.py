"""The command under `ovl-linkd exec` is the process that was started, in everything."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ovl_linkd import supervisors
from ovl_linkd.doctor import below_exec
from tests.intercept.world import COMMAND, LOOK, TOP, World, children, seen, the_supervisor
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.needs("root", "cc")

_PR_SET_CHILD_SUBREAPER = 36


def exec_(*words: str | Path) -> list[str | Path]:
    return [COMMAND, "exec", "--", *words]


def run(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(exec_(*words), capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload, no-any-return]


def test_it_is_the_process_that_was_started() -> None:
    with subprocess.Popen(exec_("sh", "-c", "echo $$"), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert int(process.stdout.read()) == process.pid


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
        (["no-such-command"], 127),
        ([""], 127),
        (["/no/such/command"], 127),
        (["/etc/passwd/x"], 127),
        (["/etc/passwd"], 126),
        (["/"], 126),
    ],
)
def test_its_end_is_the_end(words: list[str], code: int) -> None:
    """As a shell has it: 127 where there is no such command, 126 where it is none."""
    done = run(*words)
    assert done.returncode == code
    assert done.stderr.startswith("ovl-linkd exec: ") == (code in (126, 127))


def test_a_script_without_an_interpreter_is_a_shell_s(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo $0 $1\n")
    script.chmod(0o755)
    assert run(script, "word").stdout == f"{script} word\n"


def test_signals_reach_it_as_they_would() -> None:
    """Also those that Python itself ignores or answers: nothing of it is left."""
    script = """
        grep -E '^Sig(Ign|Cgt|Blk)' /proc/self/status
        trap 'exit 3' TERM
        echo ready
        while :; do sleep 0.01; done
    """
    shell = ["sh", "-c", script]
    plain = subprocess.Popen(shell, stdout=subprocess.PIPE, text=True)
    under = subprocess.Popen(exec_(*shell), stdout=subprocess.PIPE, text=True)
    said = []
    for process in (plain, under):
        assert process.stdout
        lines = []
        while (line := process.stdout.readline()) != "ready\n":
            lines.append(line)
        said.append(lines)
        process.terminate()
        assert process.wait(PATIENCE) == 3
        process.stdout.close()
    assert said[0] == said[1]


def test_its_environment_is_what_it_was_and_one_word_more() -> None:
    """Python adds an LC_CTYPE of its own where the locale is C."""
    environment = {"PATH": os.environ["PATH"], "LANG": "C", "ODD": "a=b\nc", "NOTIFY_SOCKET": "/x"}
    plain = subprocess.run(["env", "-0"], env=environment, capture_output=True, check=True)
    under = subprocess.run(exec_("env", "-0"), env=environment, capture_output=True, check=True)
    more = set(under.stdout.split(b"\0")) - set(plain.stdout.split(b"\0"))
    assert more == {b"LIBMOUNT_FORCE_MOUNT2=always"}
    assert set(plain.stdout.split(b"\0")) <= set(under.stdout.split(b"\0"))


def test_a_variable_whose_name_is_odd_is_passed_on() -> None:
    """As Wine has them: it ended in a traceback, with the filter in force already."""
    done = subprocess.run(
        ["env", "-i", "=C:=C:\\", *exec_("/usr/bin/env")], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"=C:=C:\\\n" in done.stdout


def test_it_has_the_descriptors_that_were_passed_and_no_others() -> None:
    reading, writing = os.pipe()
    script = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    words = (sys.executable, "-I", "-c", script)
    plain = subprocess.run(words, pass_fds=[writing], capture_output=True, check=True)
    under = subprocess.run(exec_(*words), pass_fds=[writing], capture_output=True, check=True)
    os.close(writing)
    assert under.stdout == plain.stdout
    assert os.read(reading, 1) == b"", "the supervisor holds none of them"
    os.close(reading)


@pytest.mark.parametrize("reaper", [False, True])
def test_the_supervisor_is_no_child_that_it_could_wait_for(reaper: bool) -> None:
    """A program that waits for all its children would wait for ever. It may even be a reaper of
    orphans: that stays so over exec."""
    script = "import os\ntry: os.waitpid(-1, 0)\nexcept ChildProcessError: print('none')"

    def become_reaper() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(reaper), 0, 0, 0)

    words = (sys.executable, "-I", "-c", script)
    assert run(*words, preexec_fn=become_reaper, timeout=60).stdout == "none\n"


def test_children_that_nobody_waits_for_are_no_trouble() -> None:
    """SIGCHLD may be ignored from the start. The guard waits for its own all the same."""
    script = ("sh", "-c", "echo done; read x")
    words = ["env", "--ignore-signal=CHLD", *exec_(*script)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        ours = the_supervisor()
        before = set(children(ours.pid))
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: (now := set(children(ours.pid))) != before and len(now) == len(before))
        assert supervisors.running() == [ours]
        assert process.communicate(timeout=60)[0] == b"done\n"
    wait_until(lambda: not Path(supervisors.DIRECTORY).exists())


def test_the_supervisor_is_in_nobody_s_way() -> None:
    """It keeps no directory, no terminal and no session busy, and no signal of theirs ends it.

    Without CAP_SYS_ADMIN it could not mount if it wanted to.
    """
    least = "echo -1000 2>&- >/proc/self/oom_score_adj; exec cat /proc/self/oom_score_adj"
    spared = subprocess.run(["sh", "-c", least], capture_output=True, text=True, check=True).stdout
    script = "read x"
    with subprocess.Popen(exec_("sh", "-c", script), stdin=subprocess.PIPE) as process:
        ours = the_supervisor()
        for pid in (ours.pid, *children(ours.pid)):
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            assert os.getsid(pid) == ours.pid
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == spared
            assert re.search("CapPrm:\t0+80006\n", Path(f"/proc/{pid}/status").read_text())
            for number in ("TERM", "INT", "HUP", "QUIT"):
                os.kill(pid, signal.Signals[f"SIG{number}"])
        assert ours.command == ["sh", "-c", script]
        assert ours.command_pid == process.pid
        assert supervisors.running() == [ours]
        assert process.stdin
        process.stdin.close()
    wait_until(lambda: not Path(supervisors.DIRECTORY).exists())


def test_others_learn_of_it(world: World, mounter: Path) -> None:
    """Who looks at this machine, and who is about to take the package away."""
    _, options = world.layers(60)
    file = world.file(options)
    script = '"$0" plainly "$1" "$2"; mount -t tmpfs -o size=1m x "$2"; read x'
    words = [*world.command(), "sh", "-c", script, mounter, file, world.merged]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: [each.seen for each in supervisors.running()] == [2])
        (ours,) = supervisors.running()
        assert (ours.rewritten, ours.refused) == (1, 0)

        told = subprocess.run([COMMAND, "status", "--json"], capture_output=True, check=False)
        (shown,) = json.loads(told.stdout)["exec"]
        assert shown == {key: value for key, value in ours._asdict().items() if key != "born"}
        said = subprocess.run([COMMAND, "status"], capture_output=True, text=True, check=False)
        assert f"pid {ours.pid}, since {ours.since}: 2 seen, 1 rewritten, 0 refused" in said.stdout
        ask = [sys.executable, "-m", "ovl_linkd.dependents"]
        asked = subprocess.run(ask, capture_output=True, text=True, check=False)
        assert asked.returncode == 3
        assert f"process {ours.pid}: ovl-linkd exec serves what was started by: sh" in asked.stdout
        assert "2 calls of mount(2) seen" in below_exec.findings()[1].what
        assert process.stdin
        process.stdin.close()


def test_what_a_killed_one_left_is_swept_up() -> None:
    directory = Path(supervisors.DIRECTORY)
    directory.mkdir(parents=True)
    old = supervisors.Supervisor(os.getpid(), 1, ["x"], 1, "2026-01-01T00:00:00Z", 0, 0, 0)
    supervisors.write(old)
    assert supervisors.running() == []
    run("true")
    wait_until(lambda: not directory.exists())


def test_two_supervisors_in_a_row_are_one_too_many() -> None:
    done = run(COMMAND, "exec", "--", "echo", "no")
    assert (done.returncode, done.stdout) == (125, "")
    assert "only one may be" in done.stderr
    assert "hint: another ovl-linkd exec does for all below it" in done.stderr


def test_a_kernel_that_can_not_is_no_reason_to_guess(world: World) -> None:
    done = world.run("echo", "no", fault="older_kernel", options=(), code=125)
    assert done.stdout == ""
    assert "hint: Linux 5.19 or later has SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in done.stderr


@pytest.mark.needs("unshare")
def test_the_proc_of_another_namespace_is_not_relied_on(world: World, mounter: Path) -> None:
    """The caller's number is another's there: that one's memory would be written to."""
    ids, options = world.layers(60)
    command = [*world.command(), mounter, "plainly", world.file(options), world.merged]
    alone = ["unshare", "--fork", "--pid"]

    refused = subprocess.run([*alone, *command], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (125, "")
    assert "hint: unshare --mount-proc" in refused.stderr

    # There the command is process 1, whose child every orphan is, and all ends with it.
    look_there = ("sh", "-c", LOOK, "look", world.merged)
    done = subprocess.run(
        [*alone, "--mount-proc", *command, *look_there], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"mount: 0\n{seen(ids)}"


def test_without_a_command_it_is_a_wrong_call() -> None:
    assert run().returncode == 2


def test_who_may_not_is_told_what_to_do() -> None:
    """Without CAP_SYS_ADMIN the kernel takes a filter from who gives up setuid programs only."""
    words = ("setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "ovl_linkd")
    environment = os.environ | {"PYTHONPATH": str(TOP / "daemon")}

    def as_nobody(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, "exec", *options, "--", "grep", "NoNewPrivs", "/proc/self/status"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    refused = as_nobody()
    assert (refused.returncode, refused.stdout) == (125, "")
    assert "--no-new-privs" in refused.stderr
    allowed = as_nobody("--no-new-privs")
    assert (allowed.returncode, allowed.stdout) == (0, "NoNewPrivs:\t1\n")
