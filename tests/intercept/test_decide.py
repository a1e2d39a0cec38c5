"""What becomes of options that don't fit, for callers that see this or that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd.errors import UserError
from ovl_linkd.intercept.decide import Names, decide
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.prefixes import Prefix
from ovl_linkd.overlay.shorten import expand

LIMITS = of_this_kernel(page_size=4096)
STORE = b"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
LINK = Prefix("ctrdl", STORE, b"/run/ctrdl")


class Sight:
    """A caller that is where CWD says, and for whom the links in LEADS lead where they should."""

    def __init__(self, *leads: bytes, cwd: bytes | None = b"/") -> None:
        self.leads = leads
        self.cwd = cwd

    def same(self, short: bytes, target: bytes) -> bool:
        assert target
        return short in self.leads

    def working_directory(self) -> bytes | None:
        return self.cwd


def layers(store: bytes, count: int) -> bytes:
    return b"lowerdir=" + b":".join(b"%s/%d/fs" % (store, number) for number in range(count))


def test_a_link_that_leads_there_is_used() -> None:
    made = decide(layers(STORE, 100), Sight(LINK.short), Names([LINK]), LIMITS)
    assert made.options == layers(LINK.short, 100)
    assert made.how == "link ctrdl"


def test_one_that_doesn_t_is_not_and_the_next_one_is() -> None:
    """Two links for one store; the shorter one is not to be had in this caller's namespace."""
    other = Prefix("other", STORE, b"/run/other")
    names = Names([LINK._replace(short=b"/r"), other])
    made = decide(layers(STORE, 100), Sight(other.short), names, LIMITS)
    assert made.options == layers(other.short, 100)
    none = decide(layers(STORE, 100), Sight(), names, LIMITS)
    assert none.options == b""
    assert "ctrdl leads elsewhere for this caller, or nowhere; other leads" in none.reason


@pytest.mark.parametrize("cwd", [b"/var/lib/containerd", STORE[:40], STORE])
def test_relative_paths_are_found_from_where_the_caller_is(cwd: bytes) -> None:
    link = Prefix("l", STORE + b"/a-long-directory-of-somebody-s", b"/l")
    store = (link.target + b"/").removeprefix(cwd + b"/")[:-1]
    made = decide(layers(store, 120), Sight(b"/l", cwd=cwd), Names([link]), LIMITS)
    assert made.options == layers(b"/l", 120)


def test_a_working_directory_that_nobody_can_name_is_no_help() -> None:
    made = decide(layers(b"long/" * 20, 60), Sight(b"/l", cwd=None), Names([LINK]), LIMITS)
    assert made.options == b""


def test_a_directory_s_name_is_spelt_as_a_list_wants_it() -> None:
    link = Prefix("l", b"/a:b,c\\d/store", b"/l")
    text = b"lowerdir=" + b"::".join(b"store/%d" % number for number in range(1000, 1400))
    made = decide(text, Sight(b"/l", cwd=b"/a:b,c\\d"), Names([link]), LIMITS)
    assert made.options == text.replace(b"store/", b"/l/")


def test_what_the_farm_leased_is_used_where_it_leads_there() -> None:
    def lease(paths: object) -> list[Prefix]:
        assert isinstance(paths, list)
        return [Prefix(f"/f/{at}", path, b"/f/%d" % at) for at, path in enumerate(paths)]

    names = Names([], b"/f", lease)
    every = [b"/f/%d" % number for number in range(100)]
    made = decide(layers(STORE, 100), Sight(*every), names, LIMITS)
    assert made.options == b"lowerdir=" + b":".join(every)
    assert made.how.startswith("farm /f/0, /f/1, /f/2 …")
    none = decide(layers(STORE, 100), Sight(), names, LIMITS)
    assert (none.options, "the farm leads elsewhere" in none.reason) == (b"", True)


def test_what_is_wrong_with_the_farm_is_said() -> None:
    def lease(_: object) -> list[Prefix]:
        raise UserError("the farm is full")

    made = decide(layers(STORE, 100), Sight(), Names([], b"/f", lease), LIMITS)
    assert made.reason.endswith("; the farm is full")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"lowerdir=/a:" + b"b" * 4100 + b"\\", "a lone backslash at the end"),
        (b"lowerdir=" + b"/a:" * 2000 + b"/b", "2,001 lower layers, the kernel takes 500"),
        (b"," * 5000, "bytes too long"),
        (b"lowerdir=" + b"/x" * 5000, "bytes too long"),
    ],
)
def test_what_can_t_be_helped_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    made = decide(text, Sight(), Names([LINK]), LIMITS)
    assert made.options == b""
    assert reason in made.reason


@given(
    st.lists(st.sampled_from([b"lowerdir=", b"upperdir=", b":", b"::", b",", b"\\", b"=", STORE,
                              b"/1/fs", b"x/y", b"/", b'"', b"\n", b"\xff", b"lowerdir+="]),
             max_size=40),
    st.booleans(),
    st.sampled_from([None, b"/", b"/a,b", STORE]),
)  # fmt: skip
def test_every_text_has_an_answer_and_that_means_the_same(
    parts: list[bytes], leads: bool, cwd: bytes | None
) -> None:
    """Never anything longer than the kernel takes, and by the long names what was given."""
    text = b"".join(parts)
    small = LIMITS._replace(mount=60)
    made = decide(text, Sight(LINK.short if leads else b"", cwd=cwd), Names([LINK]), small)
    assert len(made.options) <= 60
    assert bool(made.options) == (not made.reason) or not text
    if made.options and cwd is None:
        assert expand(made.options, [LINK]) == text
