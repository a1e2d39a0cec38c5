"""What becomes of options that don't fit, for callers that see this or that."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd.errors import UserError
from ovl_linkd.intercept.decide import Names, decide
from ovl_linkd.overlay.prefixes import Prefix
from ovl_linkd.overlay.shorten import expand
from tests.planning import LIMITS, LINK, STORE


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
    assert none.elsewhere == ("ctrdl", "other")


def test_a_link_that_is_of_no_use_anyway_is_not_said_to_lead_elsewhere() -> None:
    names = Names([LINK, Prefix("other", b"/srv/other", b"/o")])
    assert decide(layers(STORE, 100), Sight(), names, LIMITS).elsewhere == ("ctrdl",)


@pytest.mark.parametrize("text", [layers(STORE, 3), b"lowerdir=snapshots/1:snapshots/2"])
def test_what_fits_is_left_as_it_is(text: bytes) -> None:
    made = decide(text, Sight(LINK.short, cwd=STORE[:-10]), Names([LINK]), LIMITS)
    assert (made.options, made.how) == (text, "plain")


@pytest.mark.parametrize("cwd", [b"/", b"/var/lib/containerd", STORE[:40], STORE])
def test_relative_paths_are_found_from_where_the_caller_is(cwd: bytes) -> None:
    link = Prefix("l", STORE + b"/a-long-directory-of-somebody-s", b"/l")
    store = (link.target + b"/").removeprefix(cwd.rstrip(b"/") + b"/")[:-1]
    made = decide(layers(store, 120), Sight(b"/l", cwd=cwd), Names([link]), LIMITS)
    assert made.options == layers(b"/l", 120)


def test_a_working_directory_that_nobody_can_name_is_no_help() -> None:
    made = decide(layers(b"long/" * 20, 60), Sight(b"/l", cwd=None), Names([LINK]), LIMITS)
    assert made.options == b""


def test_a_refusal_speaks_of_the_options_that_the_caller_gave() -> None:
    """Not of the absolute ones that were tried in their place."""
    text = layers(b"snapshots", 400)
    made = decide(text, Sight(cwd=STORE[:-10]), Names([]), LIMITS)
    assert f": {len(text):,} bytes, mount(2) takes 4,095" in made.reason


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


class Farm:
    """A farm that leases whatever it is ASKED for, below DIRECTORY."""

    def __init__(self, directory: bytes = b"/f") -> None:
        self.directory = directory
        self.asked: list[bytes] = []

    def lease(self, paths: Sequence[bytes]) -> list[Prefix]:
        self.asked += paths
        return [self._entry(path, at) for at, path in enumerate(paths)]

    def _entry(self, path: bytes, at: int) -> Prefix:
        short = b"%b/%d" % (self.directory, at)
        return Prefix(short.decode(), path, short)

    def names(self, *links: Prefix, lasting: bool = False) -> Names:
        return Names(links, self.directory, self.lease, lasting)

    def sight(self, *links: Prefix) -> Sight:
        every = [b"%b/%d" % (self.directory, number) for number in range(501)]
        return Sight(*every, *[link.short for link in links])


def test_a_farm_is_asked_only_where_the_links_don_t_suffice() -> None:
    farm = Farm()
    made = decide(layers(STORE, 100), farm.sight(LINK), farm.names(LINK), LIMITS)
    assert (made.how, farm.asked) == ("link ctrdl", [])


def test_what_no_farm_may_name_goes_by_a_link_beside_it() -> None:
    farm = Farm()
    text = b"upperdir=%b/9/fs,%b" % (STORE, layers(STORE, 400))
    made = decide(text, farm.sight(LINK), farm.names(LINK), LIMITS)
    assert made.options.startswith(b"upperdir=/run/ctrdl/9/fs,lowerdir=/f/0:/f/1:")


def test_a_farm_that_nobody_can_take_away_comes_before_a_link() -> None:
    """A cleaner may remove the link between our look and the kernel's."""
    farm = Farm()
    names = farm.names(LINK, lasting=True)
    made = decide(layers(STORE, 100), farm.sight(LINK), names, LIMITS)
    assert made.options == b"lowerdir=" + b":".join(b"/f/%d" % number for number in range(100))


def test_where_the_farm_leads_elsewhere_a_link_does_though_the_farm_is_guarded() -> None:
    names = Farm().names(LINK, lasting=True)
    made = decide(layers(STORE, 100), Sight(LINK.short), names, LIMITS)
    assert made.options == layers(LINK.short, 100)


def test_where_not_even_a_guarded_farm_can_be_asked_a_link_does() -> None:
    names = Names([LINK], b"/f", None, lasting=True)
    assert decide(layers(STORE, 100), Sight(LINK.short), names, LIMITS).how == "link ctrdl"


def test_which_layers_are_worth_an_entry_depends_on_where_the_farm_lies() -> None:
    """Below /run/ctrdf they would be no shorter."""
    farm = Farm()
    text = b"lowerdir=" + b":".join(b"/layers/%06d" % number for number in range(400))
    made = decide(text, farm.sight(), farm.names(), LIMITS)
    assert len(farm.asked) == 400
    assert made.options.startswith(b"lowerdir=/f/0:/f/1:")


@pytest.mark.parametrize(("count", "asked"), [(500, 500), (501, 0)])
def test_nothing_is_leased_for_more_layers_than_the_kernel_takes(count: int, asked: int) -> None:
    """No name changes their number, and entries that nobody uses fill the farm."""
    farm = Farm()
    made = decide(layers(STORE, count), farm.sight(), farm.names(), LIMITS)
    assert (len(farm.asked), bool(made.options)) == (asked, bool(asked))


def test_a_farm_that_leads_there_is_not_blamed_for_its_length() -> None:
    farm = Farm(b"/run/a-farm-with-a-long-name")
    made = decide(layers(STORE, 400), farm.sight(), farm.names(), LIMITS)
    assert "too long even through the farm" in made.reason
    assert made.elsewhere == ()


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
    assert made.remedy


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
