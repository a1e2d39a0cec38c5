"""`repair --offline`: from this process, without a daemon; and what `repair` says without one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ovl_linkd import config_files, published
from ovl_linkd.links.link import Link
from ovl_linkd.published import Published
from tests.daemon.world import CODE, command

pytestmark = pytest.mark.needs("root")


class Place(NamedTuple):
    """A configuration of `top`/one and `top`/two -> `top`/t, and no daemon."""

    top: Path
    config: Path

    def offline(self, *words: str) -> "subprocess.CompletedProcess[str]":
        run = command("repair", "--offline", "--config", self.config, *words)
        assert "Traceback" not in run.stderr
        return run


@pytest.fixture
def place(scratch: Path) -> Place:
    (scratch / "t").mkdir()
    config = scratch / "config.yaml"
    links = {
        name: {"path": str(scratch / name), "target": str(scratch / "t")} for name in ("one", "two")
    }
    config.write_text(json.dumps({"control-socket": str(scratch / "sock"), "links": links}))
    return Place(scratch, config)


def test_all_links_are_put_right(place: Place) -> None:
    (place.top / "two").symlink_to("/elsewhere")
    run = place.offline()
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [
        f"{name}: ok: {place.top}/{name} -> {place.top}/t" for name in ("one", "two")
    ]
    assert os.readlink(place.top / "one") == os.readlink(place.top / "two") == f"{place.top}/t"


def test_only_the_named_ones_are(place: Place) -> None:
    assert place.offline("two").returncode == 0
    assert not os.path.lexists(place.top / "one")
    assert (place.top / "two").is_symlink()


def test_one_that_can_t_be_is_said_and_counts(place: Place) -> None:
    (place.top / "one").mkdir()
    (place.top / "one/file").write_text("precious")
    run = place.offline()
    assert run.returncode == 1
    assert "one: blocked" in run.stdout
    assert "(to do: " in run.stdout
    assert (place.top / "one/file").read_text() == "precious"
    assert (place.top / "two").is_symlink(), "the other one is put right all the same"


def test_an_unknown_name_touches_nothing(place: Place) -> None:
    run = place.offline("one", "three")
    assert run.returncode == 2
    assert "no link is named three" in run.stderr
    assert not os.path.lexists(place.top / "one")


def test_what_a_killed_run_left_is_swept(place: Place) -> None:
    (place.top / "one").symlink_to(place.top / "t")
    (place.top / ".one.ovl-linkd").symlink_to("/elsewhere")
    assert place.offline().returncode == 0
    assert not os.path.lexists(place.top / ".one.ovl-linkd")


def test_a_hostile_text_is_no_output_of_ours(place: Place) -> None:
    place.top.chmod(0o777)
    config = json.loads(place.config.read_text())
    config["links"]["one"]["allow-unsafe-parent"] = True
    del config["links"]["two"]
    config["control-socket"] = "/run/not/there"
    elsewhere = Path("/run/config-of-repair.yaml")
    elsewhere.write_text(json.dumps(config))
    try:
        (place.top / ".one.ovl-linkd").write_text("precious")
        os.symlink(b"/x\n\x1b[2J\xff", place.top / "one")
        run = command("repair", "--offline", "--config", elsewhere)
    finally:
        elsewhere.unlink()
    assert run.returncode == 1
    assert len(run.stdout.splitlines()) == 1
    assert "\x1b" not in run.stdout
    assert (place.top / ".one.ovl-linkd").read_text() == "precious"


def test_the_standard_library_is_enough(scratch: Path) -> None:
    """On a broken machine: no site-packages, no YAML, only what the daemon published."""
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from ovl_linkd.cli import main
code = main(["repair", "--offline", "one"])
sys.exit(code or "yaml" in sys.modules)
"""
    (scratch / "t").mkdir()
    link = Link("one", str(scratch / "one"), str(scratch / "t"))
    directory = Path(published.PATH).parent
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    published.write(Published((link,), str(scratch / "sock"), config_files.stamp(None)))
    try:
        run = subprocess.run(
            [
                *(sys.executable, "-I", "-S", "-W", "error", "-c"),
                script,
                CODE,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.unlink(published.PATH)
        if made:
            directory.rmdir()
    assert (run.returncode, run.stderr) == (0, "")
    assert os.readlink(scratch / "one") == str(scratch / "t")


@pytest.mark.parametrize(
    "words", [["repair"], ["repair", "one"], ["repair", "--adopt"], ["reload"]]
)
def test_without_a_daemon_the_others_say_so(place: Place, words: list[str]) -> None:
    run = command(*words, "--config", place.config)
    assert run.returncode == 3
    assert run.stdout == ""
    assert "the daemon is not running" in run.stderr
    assert "  hint: " in run.stderr
    assert not os.path.lexists(place.top / "one")


def test_the_way_without_a_daemon_is_offered_where_there_is_one(place: Place) -> None:
    assert "--offline" in command("repair", "--config", place.config).stderr
    assert "--offline" not in command("reload", "--config", place.config).stderr


@pytest.mark.parametrize(
    ("words", "code"), [(["repair"], 4), (["repair", "--offline"], 1), (["reload"], 4)]
)
def test_with_a_broken_configuration_nothing_is_touched(
    place: Place, words: list[str], code: int
) -> None:
    """4 as of `status`: without the socket's path, the daemon can't be asked anything."""
    place.config.write_text("links: [")
    run = command(*words, "--config", place.config)
    assert run.returncode == code
    assert str(place.config) in run.stderr
    assert "Traceback" not in run.stderr
    assert not os.path.lexists(place.top / "one")
