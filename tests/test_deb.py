"""`make deb`: one package for two releases of Debian, whose Pythons differ.

tests/system/test_deb.py installs it under both; what would break that is looked for here, in the
package itself.
"""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from ovl_linkd import __version__

TOP = Path(__file__).parents[1]
LIBRARY = "usr/lib/ovl-linkd"

pytestmark = pytest.mark.needs("dpkg-deb", "make")


@pytest.fixture(scope="module")
def content(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "-R", package, root], check=True)
    return root


def files(root: Path) -> dict[str, Path]:
    found = (path for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
    return {str(path.relative_to(root)): path for path in found}


def test_nothing_in_it_knows_a_minor_version_of_python(content: Path) -> None:
    """After the upgrade to the next Debian, an environment made for the old Python is dead."""
    for name, path in files(content).items():
        assert not re.search(r"python3\.\d|cpython|\.so\b|\.pyc$|pyvenv", name)
        assert path.is_file()
        if path.read_bytes()[:2] == b"#!":
            assert not re.match(rb"#!.*python3\.", path.read_bytes())


def test_it_brings_only_what_debian_lacks(content: Path) -> None:
    brought = {path.name for path in (content / LIBRARY).iterdir()}
    assert brought == {
        *("ovl_linkd", "asyncvarlink", "inotify_simple.py", "config.yaml", "mount.overlay")
    }
    control = (content / "DEBIAN/control").read_text()
    depends = re.search(r"(?m)^Depends: (.*)$", control)
    assert depends
    assert {each.split()[0] for each in depends[1].split(", ")} == {
        *("python3", "python3-jsonschema", "python3-systemd", "python3-yaml", "systemd")
    }
    assert "\nArchitecture: all\n" in control
    copyright_ = (content / "usr/share/doc/ovl-linkd/copyright").read_text()
    assert {"asyncvarlink", "inotify_simple.py"} <= {
        Path(name.removesuffix("/*")).name for name in re.findall(r"Files: (\S+)", copyright_)
    }


def test_the_command_in_it_runs_without_site_packages(content: Path, tmp_path: Path) -> None:
    """What the commands that mount need is there, and nothing of /usr/local can get in the way."""
    program = (content / "usr/bin/ovl-linkd").read_text()
    assert program.startswith("#!/usr/bin/python3 -IS\n")
    assert program.endswith("\nscript()\n"), "main() would have the interpreter taken apart at exit"
    here = tmp_path / "ovl-linkd"
    here.write_text(program.replace(f'"/{LIBRARY}"', repr(str(content / LIBRARY))))
    said = subprocess.run(
        ["/usr/bin/python3", "-ISB", here, "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"ovl-linkd {__version__}\n"
    program = (content / "usr/bin/ovl-linkd-runc").read_text()
    here.write_text(program.replace(f'"/{LIBRARY}"', repr(str(content / LIBRARY))))
    said = subprocess.run(
        ["/usr/bin/python3", "-ISB", here, "--ovl-linkd-runtime=/bin/echo", "it", "runs"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "it runs\n"
    code = (
        "import ovl_linkd.api, ovl_linkd.client, ovl_linkd.links.keeper, ovl_linkd.commands.status"
    )
    script = f"import sys; sys.path.insert(0, {str(content / LIBRARY)!r}); {code}"
    subprocess.run(["/usr/bin/python3", "-IS", "-B", "-c", script], check=True)


def test_its_units_call_the_command_where_it_is(content: Path) -> None:
    found = set()
    for unit in (content / "usr/lib/systemd/system").iterdir():
        found |= set(re.findall(r"=[-+!@:]*(/\S*ovl-linkd)\s", unit.read_text()))
    assert found == {"/usr/bin/ovl-linkd"}
    assert os.access(content / "usr/bin/ovl-linkd", os.X_OK)


def test_it_owns_nothing_in_etc_and_nothing_that_others_may_write(content: Path) -> None:
    assert not [name for name in files(content) if not name.startswith(("usr/", "DEBIAN/"))]
    assert not [name for name, path in files(content).items() if path.stat().st_mode & 0o022]
    programs = {
        name
        for name, path in files(content).items()
        if path.stat().st_mode & stat.S_IXUSR and not name.startswith("DEBIAN/")
    }
    assert programs == {
        *("usr/bin/ovl-linkd", "usr/bin/ovl-linkd-runc", "usr/lib/ovl-linkd/mount.overlay"),
        "usr/share/python3/runtime.d/ovl-linkd.rtupdate",
    }


def test_the_marks_of_what_it_writes_are_those_that_are_looked_for(content: Path) -> None:
    """Written by the program, taken away by a shell script: they have to mean the same line."""
    from ovl_linkd.commands import init_drop_in, tmpfiles

    for path in (content / "DEBIAN/postrm", TOP / "daemon/install/uninstall.sh"):
        script = path.read_text()
        found = re.findall(r"'\^?(# Written by [^'*]*)'", script)
        for mark in (tmpfiles.MARK, init_drop_in.MARK):
            assert any(mark.startswith(each) for each in found)
        assert f"/etc/tmpfiles.d/{tmpfiles.NAME}" in script
        assert f"{init_drop_in.DIRECTORY}/ovl-linkd.service.d" in script


def test_checksums_cover_every_file(content: Path) -> None:
    sums = (content / "DEBIAN/md5sums").read_text()
    listed = {line.split("  ", 1)[1] for line in sums.splitlines()}
    assert listed == {name for name in files(content) if not name.startswith("DEBIAN/")}
    subprocess.run(["md5sum", "--quiet", "-c", "DEBIAN/md5sums"], cwd=content, check=True)
