"""`ovl-linkd check`: what an operator, or a deployment script, gets to see."""

import json
import os
from pathlib import Path

import pytest

from tests.daemon.world import command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file of two links; the target of one is a file, the path of the other a directory."""
    tmp_path.chmod(0o755)
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "c.yaml").write_text(f"""\
links:
  one: {{path: {tmp_path}/one, target: {tmp_path}/file, allow-unsafe-parent: true}}
  two: {{path: {tmp_path}/taken, target: {tmp_path}/none, allow-unsafe-parent: true}}
""")
    (tmp_path / "c.yaml").chmod(0o644)
    return tmp_path / "c.yaml"


def test_a_right_configuration_is_shown_link_by_link(config: Path) -> None:
    done = command("check", "--config", config)
    directory = config.parent
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"one: {directory}/one -> {directory}/file",
        f"two: {directory}/taken -> {directory}/none",
        f"ok: 2 links, 1 file read: {config}",
    ]


def test_what_lies_on_disk_now_is_a_warning_and_no_error(config: Path) -> None:
    """The daemon waits for both to go: a deployment must not fail for them."""
    done = command("check", "--config", config)
    directory = config.parent
    assert done.stderr.splitlines() == [
        f"warning: link one: the target {directory}/file is not a directory",
        f"warning: link two: {directory}/taken is taken by something that is no symlink",
    ]


def test_a_configuration_without_links_is_right_but_said(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("")
    file.chmod(0o644)
    done = command("check", "--config", file)
    assert (done.returncode, done.stdout) == (0, f"ok: 0 links, 1 file read: {file}\n")
    assert done.stderr == "warning: no link is configured\n"


def test_a_file_where_the_farm_is_to_be(tmp_path: Path) -> None:
    """Whoever asks for leases must not learn only then that there are none."""
    file = tmp_path / "c.yaml"
    file.write_text("farm: {path: /etc/fstab}\nlinks: {a: {path: /run/a, target: /srv/a}}\n")
    file.chmod(0o644)
    done = command("check", "--config", file)
    assert done.returncode == 0
    assert done.stderr == "warning: farm: /etc/fstab is taken by something that is no directory\n"


def test_every_mistake_is_one_line_on_standard_error(config: Path) -> None:
    config.write_text("fram: 1\nlinks: {a: {path: /run/a, target: x}}\n")
    done = command("check", "--config", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f'{config}:1:1: unknown key "fram", did you mean farm?',
        f'{config}:2:35: links.a.target: "x" is not absolute, write the whole path, from / on',
        "ovl-linkd check: 2 problems in 1 file",
    ]


def test_a_missing_file_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = command("check", "--config", tmp_path / "none.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    what, hint = "No such file or directory", "name a file that exists, or leave the option out"
    assert done.stderr.splitlines() == [
        f"{tmp_path}/none.yaml: {what}, {hint}",
        "ovl-linkd check: 1 problem in 1 file",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_cannot_be_printed_do_not_break_the_output(
    tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.yaml"))
    file.write_text("links: {a: {path: /run/a, target: /srv/é}}")
    file.chmod(0o644)
    done = command("check", "--config", file)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    file.write_text("é: 1")
    done = command("check", "--config", file)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_json_of_a_right_configuration(config: Path) -> None:
    done = command("check", "--config", config, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert len(seen.pop("warnings")) == 2
    directory = config.parent
    assert seen == {
        "schema_version": 1,
        "ok": True,
        "files": [str(config)],
        "links": [
            {"name": "one", "path": f"{directory}/one", "target": f"{directory}/file"},
            {"name": "two", "path": f"{directory}/taken", "target": f"{directory}/none"},
        ],
        "farm": None,
        "problems": [],
    }


def test_the_farm_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("farm: {path: /run/f, keep: 90s}\n")
    file.chmod(0o644)
    assert "farm: /run/f\n" in command("check", "--config", file).stdout
    said = json.loads(command("check", "--config", file, "--json").stdout)["farm"]
    assert said == {"path": "/run/f", "keep": 90.0, "max_entries": 100_000, "guard": "none"}


def test_json_of_mistakes(config: Path) -> None:
    config.write_text("fram: 1\n")
    done = command("check", "--config", config, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == {
        "schema_version": 1,
        "ok": False,
        "files": [],
        "links": [],
        "farm": None,
        "problems": [
            {
                "file": str(config),
                "line": 1,
                "column": 1,
                "what": 'unknown key "fram"',
                "hint": "did you mean farm?",
            }
        ],
        "warnings": [],
    }
