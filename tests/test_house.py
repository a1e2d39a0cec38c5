"""The rules of the house, as tests: what imports what, types, style, what is in the package.

None of them needs root. `make lint` runs them alone.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import pytest

from ovl_linkd.cli import COMMANDS

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "daemon" / "ovl_linkd"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Which part may know of which others; `.` is what lies beside the parts. Nobody imports
# `commands`: cli finds them by name.
MAY_IMPORT = {
    "overlay": set[str](),
    "links": set[str](),
    "formats": {"overlay"},
    "config": {"links", "."},
    "machine": {"overlay"},
    "intercept": {"overlay", "."},
    "oci_runtime": {"formats", "overlay", "."},
    "doctor": {"intercept", "machine", "links", "formats", "overlay", "."},
    "service": {"config", "links", "overlay", "."},
    "commands": {
        *(
            "service",
            "intercept",
            "doctor",
            "machine",
            "config",
            "links",
            "formats",
            "overlay",
            ".",
        ),
    },
    ".": {"config", "links", "formats", "overlay"},
}

# The one module that may import a library, and the name by which the library is installed.
LIBRARIES = {
    "asyncvarlink": ("service/control.py", "asyncvarlink"),
    "inotify_simple": ("links/watch.py", "inotify-simple"),
    "jsonschema": ("config/__init__.py", "jsonschema"),
    "systemd": ("service/systemd.py", "systemd-python"),
    "yaml": ("config/yaml_tree.py", "PyYAML"),
}

# What a command that lives for 30 ms can't afford (each costs between 2 and 45 of them).
HEAVY = {
    "asyncio",
    "concurrent.futures",
    "dataclasses",
    "importlib.metadata",
    "inspect",
    "logging",
    "pathlib",
    "subprocess",
    "tempfile",
    "unittest",
    "urllib.request",
}
# What such a command imports as it starts; by way of these, also what they import.
QUICK = [
    *("api", "cli", "client", "errors", "published", "leasing", "links.link"),
    *(f"commands.{name}" for name in COMMANDS),
    *("commands.mount_overlay", "formats", "overlay", "oci_runtime", "shortening"),
]

MOST_LINES = 350


class Import(NamedTuple):
    module: Path
    line: int
    name: str
    """Dotted, absolute, down to the module where that is one of ours."""

    @property
    def where(self) -> str:
        return f"{self.module.relative_to(TOP)}:{self.line}"


def dotted(module: Path) -> str:
    parts = module.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(name: str) -> str:
    """`overlay` for ovl_linkd.overlay.options; `.` for ovl_linkd.client."""
    inside = name.split(".")[1:]
    return inside[0] if inside and (PACKAGE / inside[0]).is_dir() else "."


def imports(module: Path) -> Iterator[Import]:
    """Every import of a module, wherever it stands: at the top, in a function, for types."""
    ours = {dotted(each) for each in MODULES}
    for node in ast.walk(ast.parse(module.read_text(), module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import; spell it out"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield Import(module, node.lineno, below if below in ours else str(node.module))


ALL_IMPORTS = [each for module in MODULES for each in imports(module)]


def run(*command: str | Path, cwd: Path = TOP) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        said = f"{done.stdout}{done.stderr}"
        pytest.fail(f"{' '.join(map(str, command[1:4]))} …\n{said}", pytrace=False)


# --- style and types -------------------------------------------------------------------------


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet")


def test_ruff_would_format_nothing() -> None:
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--quiet", "--diff")


def test_mypy_finds_nothing(tmp_path: Path) -> None:
    # Kept beside the interpreter, where a second run is five times faster; but root, run by
    # sudo, must not leave files of its own in somebody's .venv.
    mine = os.stat(sys.prefix).st_uid == os.geteuid() and os.access(sys.prefix, os.W_OK)
    cache = Path(sys.prefix, "mypy-cache") if mine else tmp_path
    run(sys.executable, "-m", "mypy", "--no-error-summary", f"--cache-dir={cache}")


@pytest.mark.needs("shellcheck")
def test_shellcheck_finds_nothing() -> None:
    """In the scripts, each with those that it reads in; the Makefile has but short commands."""
    shells = re.compile(rb"#!/bin/(ba)?sh\n")
    scripts = [path for path in FILES if path.is_file() and shells.match(path.read_bytes())]
    run("shellcheck", "--external-sources", "--check-sourced", *scripts)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_about_one_thing(module: Path) -> None:
    lines = len(module.read_text().splitlines())
    assert lines <= MOST_LINES, (
        f"{module.relative_to(TOP)} has {lines} lines: a module of more than 300 usually hides "
        "two; look for the functions that never call the others"
    )


# --- who imports whom ------------------------------------------------------------------------


def test_every_part_is_in_the_table() -> None:
    parts = {part_of(dotted(module)) for module in MODULES}
    assert parts == set(MAY_IMPORT), "say in MAY_IMPORT what the new part may know of"


def test_the_readme_says_what_every_part_is_about() -> None:
    """And where each kind of test is: where else would somebody new look?"""
    said = (TOP / "README.md").read_text().partition("\n## Develop\n")[2]
    assert set(re.findall(r"(?m)^\| `(\w+)/` \|", said)) == set(MAY_IMPORT) - {"."}
    kinds = {path.parent.name for path in (TOP / "tests").glob("*/test_*.py")}
    assert kinds | {"bench", "endurance"} <= set(re.findall(r"`tests/(\w+)`", said))


def test_imports_run_one_way() -> None:
    """The planner must work without a daemon, the keeper without an event loop.

    One import in the other direction, and neither can be used, or tested, by itself any more.
    """
    wrong = [
        f"{each.where}: {mine} imports {each.name}"
        for each in ALL_IMPORTS
        if each.name.split(".")[0] == "ovl_linkd"
        and (mine := part_of(dotted(each.module))) != (theirs := part_of(each.name))
        and theirs not in MAY_IMPORT[mine]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_test_takes_anything_from_another_one() -> None:
    """What two of them need is about neither: it has a module, which says by its name of what."""
    taking = re.compile(r"(?m)^ *(?:from|import) tests\.(?:\w+\.)*test_.*")
    wrong = [
        f"{path.relative_to(TOP)}: {found[0].strip()}"
        for path in sorted((TOP / "tests").rglob("*.py"))
        for found in taking.finditer(path.read_text())
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_the_entry_point() -> None:
    """cli imports the commands: a module that imports cli would close the circle."""
    importers = {each.module.name for each in ALL_IMPORTS if each.name == "ovl_linkd.cli"}
    assert importers == {"__main__.py"}


def test_a_library_has_one_module() -> None:
    """So that a library can be replaced, and a distribution's older one be allowed for."""
    wrong = []
    for each in ALL_IMPORTS:
        library = each.name.split(".")[0]
        if library in sys.stdlib_module_names or library == "ovl_linkd":
            continue
        home, _ = LIBRARIES.get(library, ("no module", ""))
        if each.module != PACKAGE / home:
            wrong.append(f"{each.where}: imports {library}, which {home} may")
    assert not wrong, "\n".join(wrong)


def test_only_the_service_has_an_event_loop() -> None:
    """And the command that starts it: whatever else runs is synchronous, its clock passed in."""
    users = {each.module for each in ALL_IMPORTS if each.name.split(".")[0] == "asyncio"}
    others = {user for user in users if part_of(dotted(user)) != "service"}
    assert others <= {PACKAGE / "commands" / "run.py"}


def test_what_is_declared_is_what_is_imported() -> None:
    """A forgotten dependency is met by the user first: in the checkout it is always there."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    declared = {re.split("[<>=~ ]", each)[0] for each in project["dependencies"]}
    used = {each.name.split(".")[0] for each in ALL_IMPORTS} & set(LIBRARIES)
    assert declared == {LIBRARIES[library][1] for library in used}


# --- start-up --------------------------------------------------------------------------------


def modules_of(name: str) -> Iterator[str]:
    """`overlay` and all that is in it; `cli` alone."""
    yield f"ovl_linkd.{name}"
    directory = PACKAGE.joinpath(*name.split("."))
    yield from (f"ovl_linkd.{name}.{path.stem}" for path in sorted(directory.glob("[!_]*.py")))


@pytest.mark.parametrize("module", [module for name in QUICK for module in modules_of(name)])
def test_a_command_starts_on_little_of_the_standard_library(module: str) -> None:
    """`status --json` is run by monitoring every few seconds, mount.overlay at boot.

    -S hides every installed library: what is imported here runs on any bare /usr/bin/python3.
    """
    script = """
import sys
directory, module, *heavy = sys.argv[1:]
sys.path.insert(0, directory)
before = set(sys.modules)
__import__(module)
loaded = sorted(set(heavy) & (set(sys.modules) - before))
if loaded:
    sys.exit(f"importing {module} loads {', '.join(loaded)}: import it where it is used")
"""
    run(sys.executable, "-I", "-S", "-c", script, PACKAGE.parent, module, *HEAVY)


def test_the_checkout_is_found_without_an_import_hook() -> None:
    """An editable install may be a finder on sys.meta_path, asked again at every import."""
    script = "import sys; sys.exit(any('Editable' in repr(each) for each in sys.meta_path))"
    run(sys.executable, "-I", "-c", script)


# --- what is in the package and in the repository --------------------------------------------


def wheel(tmp_path: Path) -> zipfile.ZipFile:
    source = tmp_path / "source"
    source.mkdir()
    for each in filter(Path.is_file, TOP.iterdir()):
        shutil.copy(each, source)
    for name in ("daemon", "config"):
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(TOP / name, source / name, symlinks=True, ignore=ignored)
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", tmp_path, source, cwd=tmp_path)
    (built,) = tmp_path.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_all_that_running_needs(tmp_path: Path) -> None:
    """`data` is a symlink to config/ in the checkout; installed, it has to be the real files."""
    from ovl_linkd import __version__

    with wheel(tmp_path) as built:
        names = set(built.namelist())
        config = {
            f"ovl_linkd/data/{each.relative_to(TOP / 'config')}": each
            for each in (TOP / "config").rglob("*")
            if each.is_file()
        }
        code = {str(module.relative_to(PACKAGE.parent)) for module in MODULES}
        assert {name for name in names if ".dist-info/" not in name} == (
            code | config.keys() | {"ovl_linkd/py.typed"}
        )
        for name, file in config.items():
            assert built.read(name) == file.read_bytes()
        info = next(name for name in names if name.endswith("/METADATA"))
        assert Parser().parsestr(built.read(info).decode())["Version"] == __version__


def files() -> Iterator[Path]:
    """What is in the repository or about to be; without git, what .gitignore leaves of the tree."""
    git = ["git", "-c", f"safe.directory={TOP}", "ls-files", "-z", "-co", "--exclude-standard"]
    if (TOP / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(git, cwd=TOP, capture_output=True, check=True).stdout
        yield from (TOP / os.fsdecode(name) for name in listed.split(b"\0") if name)
        return
    ignored = {line.strip("/") for line in (TOP / ".gitignore").read_text().split()} | {".git"}
    for directory, directories, names in os.walk(TOP):
        here = Path(directory)
        directories[:] = [name for name in directories if not any(map(Path(name).match, ignored))]
        yield from (here / name for name in names)


FILES = [path for path in files() if os.path.lexists(path)]


def test_no_file_names_a_machine_or_a_mirror() -> None:
    """A path of the author's machine works nowhere else; a mirror is the machine's to choose."""
    names = re.compile(
        r"(?<![\w./$}-])/(?:root|work|home/\w+)/"
        r"|deb[.]debian[.]org|pypi[.]org|pythonhosted[.]org|/tmp/(?:pv|brief|bare)\b"
    )
    found = [
        f"{path.relative_to(TOP)}:{number}: {line.strip()}"
        for path in FILES
        if path.is_file()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if names.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_file_belongs_here(path: Path) -> None:
    name = path.relative_to(TOP)
    if path.is_symlink():
        assert path.resolve(strict=True).is_relative_to(TOP), f"{name} leads out of the checkout"
        return
    content = path.read_bytes()
    assert len(content) <= 256 * 1024, f"{name}: too large for something written by hand"
    if path.suffix not in {".png", ".gif", ".webp"}:
        assert b"\0" not in content, f"{name}: binary"
        assert content.endswith(b"\n") or not content, f"{name}: no newline at the end"
    junk = re.search(r"~$|[.](?:orig|rej|bak|swp|log|pyc|patch|diff)$|^core$|^nohup", name.name)
    assert not junk, f"{name}: left over from something"
