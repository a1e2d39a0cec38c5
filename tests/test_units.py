"""The unit files, as systemd itself reads and judges them, without booting anything."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ovl_linkd import config_files
from ovl_linkd.commands.tmpfiles import lines
from ovl_linkd.config import load
from tests.userland import Userland

SYSTEMD = Path(__file__).parents[1] / "systemd"
UNINSTALL = SYSTEMD.parent / "daemon/install/uninstall.sh"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
MOST_EXPOSURE = "10"  # tenths

pytestmark = pytest.mark.needs("systemd-analyze")


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, check=False
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """All units, with a program in place of ours, which need not be installed."""
    for unit in (*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.socket")):
        text = unit.read_text().replace("/usr/bin/ovl-linkd", str(shutil.which("true")))
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_takes_every_line(units: Path) -> None:
    """A directive that is misspelt, or too new for Debian 12, would be ignored with a warning."""
    done = analyze("verify", "--recursive-errors=yes", "--man=no", *units.iterdir())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_is_low(units: Path, service: str) -> None:
    threshold = f"--threshold={MOST_EXPOSURE}"
    done = analyze("security", "--offline=yes", threshold, units / service)
    assert done.returncode == 0, done.stdout


@pytest.mark.needs("root")
@pytest.mark.parametrize("release", ["debian12", "debian13"])
def test_the_systemd_of_each_release_says_the_same(
    units: Path, release: str, scratch: Path, request: pytest.FixtureRequest
) -> None:
    """A directive may be too new for one, and another weigh differently for the other."""
    (place := scratch / "system").mkdir()
    system = Userland(request.getfixturevalue(release), place)
    (inside := system.path("/opt/units")).mkdir()
    for unit in units.iterdir():
        (inside / unit.name).write_text(unit.read_text())
    names = [f"/opt/units/{unit.name}" for unit in units.iterdir()]
    verify = ("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no")
    assert system.run(*verify, *names).stderr == ""
    for name in names:
        if name.endswith(".service"):
            system.run("systemd-analyze", "security", "--offline=yes", "--threshold=10", name)


def test_what_is_left_out_of_the_sandbox_has_a_reason(units: Path) -> None:
    """Whoever reads the unit must not have to guess whether it was forgotten."""
    service = units / "ovl-linkd.service"
    found = json.loads(analyze("security", "--offline=yes", "--json=short", service).stdout)
    left_out = {
        re.split("[=/]", each["name"])[0]
        for each in found
        if not each["set"] and each["exposure"] is not None
    }
    assert left_out, "systemd-analyze has something to say about a service of root's"
    reasons = set(re.findall(r"^#   ([A-Za-z]+)=", service.read_text(), re.MULTILINE))
    assert left_out - reasons == set()


def test_the_program_is_named_by_one_path() -> None:
    """`make install` puts another prefix in its place."""
    others = ("systemd-tmpfiles", "/usr/bin/mkdir")
    for unit in SYSTEMD.glob("*.service"):
        for command in re.findall(r"^Exec\w+=[-+]*(.*)$", unit.read_text(), re.MULTILINE):
            assert command.split()[0] in ("/usr/bin/ovl-linkd", *others)


def test_what_is_made_only_to_be_read_only_is_taken_away_with_the_rest() -> None:
    text = (SYSTEMD / "ovl-linkd.service").read_text().replace("\\\n", "")
    made = re.search(r"^ExecStartPre=\S*mkdir -p (.*)$", text, re.MULTILINE)
    assert made
    places = made[1].split()
    read_only = " ".join(re.findall(r"^ReadOnlyPaths=(.*)$", text, re.MULTILINE)).split()
    assert {f"-{place}" for place in places} <= set(read_only)
    for script in (SYSTEMD / "debian/postrm", UNINSTALL):
        names = re.search(r"for name in (.*\bsysctl\.d\b.*); do", script.read_text())
        assert names
        assert [f"/run/{name}" for name in names[1].split()] == places


def test_the_packaged_lines_are_those_of_the_packaged_configuration() -> None:
    config = load(config_files.PACKAGED)
    packaged = (SYSTEMD / "tmpfiles.d" / "ovl-linkd.conf").read_text()
    assert "".join(re.findall("^[^#].*\n", packaged, re.MULTILINE)) == lines(config.links)
