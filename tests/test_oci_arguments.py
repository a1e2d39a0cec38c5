"""The command lines that engines call a runtime with, as runc and crun read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd.oci_runtime import arguments
from ovl_linkd.oci_runtime.arguments import BUNDLE, CONFIG, RUNTIME

# As containerd's shim, conmon and people write them; the bundle is /b in each.
WITH_A_BUNDLE = [
    "create --bundle /b x",
    "create -b /b x",
    "create --bundle=/b x",
    "create -bundle /b x",
    "create -b=/b x",
    "create x --bundle /b",
    "create --bundle /a --bundle /b x",
    "--root /run/containerd/runc/default --log /l --log-format json create --bundle /b x",
    "create --bundle /b --pid-file /b/init.pid --console-socket /c x",
    "--systemd-cgroup --log-format=json --log=/l create --bundle /b --pid-file /p x",
    "--debug -root /r run -d --keep --bundle /b x",
    "--root run run --preserve-fds 3 -b /b x",
    "--cgroup-manager create --log-level debug --rootless true create -b/b x",
    "create --no-pivot --bun /b x",
    "run --pid-file --bundle --bundle /b x",
]


@pytest.mark.parametrize("line", WITH_A_BUNDLE)
def test_the_bundle_is_found_and_only_it_changes(line: str) -> None:
    call = arguments.read(line.split())
    assert call.name in ("create", "run")
    assert call.value(BUNDLE) == "/b"
    assert call.value(CONFIG) is None
    changed = call.with_value(BUNDLE, "/new")
    assert arguments.read(changed).value(BUNDLE) == "/new"
    assert len(changed) == len(call.words)
    assert sum(old != new for old, new in zip(call.words, changed, strict=True)) == (
        line.count("--bundle ") - line.count("--pid-file --bundle") or 1
    )


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("create x", "create"),
        ("run --keep x", "run"),
        ("--root /r run -- x", "run"),
        ("create -- --bundle /b", "create"),
        ("--debug create --bundle", "create"),
        ("state x", "state"),
        ("--root create state x", "state"),
        ("exec x create --bundle /b", "exec"),
        ("--version", None),
        ("--root", None),
        ("", None),
        ("-- create x", "create"),
    ],
)
def test_a_bundle_that_is_not_named_is_the_working_directory(
    line: str, command: str | None
) -> None:
    call = arguments.read(line.split())
    assert call.name == command
    if command in ("create", "run"):
        assert call.value(BUNDLE) is None
        changed = call.with_value(BUNDLE, "/new")
        at = changed.index(str(command), 0 if line.startswith(("create", "run")) else 1)
        assert changed[at + 1 : at + 3] == ["--bundle", "/new"]


def test_crun_takes_another_config() -> None:
    for line in ("create -b /b -f /c x", "create -b /b --config=/c x", "create -f/c x"):
        call = arguments.read(line.split())
        assert call.value(CONFIG) == "/c"
        assert arguments.read(call.with_value(CONFIG, "/new")).value(CONFIG) == "/new"


@pytest.mark.parametrize(
    "line",
    ["--ovl-linkd-runtime /x create y", "--log l --ovl-linkd-runtime=/x create y"],
)
def test_our_own_option_is_seen_by_no_runtime(line: str) -> None:
    call = arguments.read(line.split())
    assert call.value(RUNTIME) == "/x"
    assert call.without(RUNTIME).words[-2:] == ("create", "y")
    assert "ovl-linkd" not in " ".join(call.without(RUNTIME).words)
    assert call.without(RUNTIME).value("log") == call.value("log")


WORDS = st.sampled_from(
    [
        *("-", "--", "-=", "--=", "-b", "-b=", "-b/b", "-db", "-f", "--bundle", "--bundle=", "--b"),
        *("--config=x", "--root", "--log=", "-h", "create", "run", "x", "", "\udcff", "--no-pivot"),
        *("--ovl-linkd-runtime", "--ovl-linkd-runtime=x"),
    ]
)


@given(st.lists(WORDS, max_size=8))
def test_no_words_are_lost_whatever_they_are(words: list[str]) -> None:
    call = arguments.read(words)
    assert list(call.words) == words
    for name in (BUNDLE, CONFIG):
        changed = call.with_value(name, "/new")
        if call.command is not None:
            assert len(changed) - len(words) == (0 if call.value(name) is not None else 2)
            assert "/new" in " ".join(changed)
    left = call.without(RUNTIME)
    assert [word for word in left.words if word in words] == list(left.words)
