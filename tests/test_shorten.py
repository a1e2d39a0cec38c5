"""plan(): what is handed on, what is refused, and what would help."""

import re

import pytest

from ovl_linkd import expand as api_expand
from ovl_linkd import shorten as api_shorten
from ovl_linkd.overlay import line
from ovl_linkd.overlay.limits import Limits, of_this_kernel
from ovl_linkd.overlay.options import parse
from ovl_linkd.overlay.shorten import (
    Plan,
    Prefix,
    Tables,
    capacity,
    expand,
    layers_to_lease,
    plan,
    shortened,
)
from tests.planning import LIMITS, LINK, STORE, containerd, decide


def test_128_layers_that_no_mount_takes_fit_through_the_link() -> None:
    """The reported bug: containerd 1.1 failed from 53 layers on."""
    long = containerd(128)
    decided = decide(long)
    assert decided.options == containerd(128, b"/run/ctrdl")
    assert decided == Plan(
        strategy="link",
        options=decided.options,
        before=9917,
        after=2377,
        limit=4095,
        limit_of="mount(2)",
        layers=128,
        fits=True,
        links=("ctrdl",),
    )
    assert expand(decided.options, [LINK]) == long


def test_the_byte_that_the_kernel_zeroes_does_not_count() -> None:
    """4,095 bytes count; 4,096 lose their last one without an error."""
    fits = b"lowerdir=/" + b"a" * (4095 - 10)
    assert decide(fits) == Plan("plain", fits, 4095, 4095, 4095, "mount(2)", 1, True)
    refused = decide(fits + b"a")
    assert not refused.fits
    assert refused.after == 4096
    assert refused.reason is not None
    assert refused.reason.startswith("1 bytes too long")


@pytest.mark.parametrize("layers", range(215, 235))
def test_options_that_are_handed_out_are_never_longer_than_the_limit(layers: int) -> None:
    decided = decide(containerd(layers))
    assert len(decided.options) <= LIMITS.mount
    assert decided.fits == (decided.after <= LIMITS.mount)
    assert bool(decided.options) == decided.fits
    assert decided.fits == (layers <= 223)


def test_a_refusal_says_by_how_much_and_how_many_layers_would_fit() -> None:
    decided = decide(containerd(300))
    assert decided.reason == (
        "1,378 bytes too long even through the link: 5,473 bytes, mount(2) takes 4,095; "
        "223 of 300 layers would fit"
    )
    assert plan(containerd(223), [LINK], LIMITS).fits


@pytest.mark.parametrize("escaped", [b"", b"\\"])
@pytest.mark.parametrize("last", [b"/last", rb"/la\:st", b":/data"])
def test_the_layers_that_would_fit_do_fit(escaped: bytes, last: bytes) -> None:
    """The number in the message is true to the last layer, with escapes and without."""
    lower = [*(b"/layers/%ba%04d" % (escaped, at) for at in range(400)), last]
    options = b"lowerdir=%b,upperdir=/u,workdir=/w"
    decided = decide(options % b":".join(lower))
    assert decided.reason is not None
    fitting = int(decided.reason.split("; ")[1].split(" ")[0])
    assert decide(options % b":".join(lower[:fitting])).fits
    assert not decide(options % b":".join(lower[: fitting + 1])).fits


def test_added_layers_that_would_fit_do_fit() -> None:
    lower = [b"lowerdir+=/layers/%04d" % at for at in range(400)]
    decided = decide(b",".join([b"rw", *lower]))
    assert decided.reason is not None
    fitting = int(decided.reason.split("; ")[1].split(" ")[0])
    assert decide(b",".join([b"rw", *lower[:fitting]])).fits
    assert not decide(b",".join([b"rw", *lower[: fitting + 1]])).fits


def test_more_layers_than_the_kernel_takes_are_refused_however_short() -> None:
    decided = decide(b"lowerdir=" + b":".join([b"/a"] * 512))
    assert not decided.fits
    assert decided.options == b""
    assert decided.reason == "512 lower layers, the kernel takes 500"
    assert decide(b"lowerdir=" + b":".join([b"/a"] * 500)).fits


def test_a_refusal_names_the_directory_that_a_link_should_cover() -> None:
    decided = decide(containerd(100), Prefix("other", b"/srv/x", b"/run/o"))
    assert decided.strategy == "plain"
    assert decided.remedy == f"a link that covers {STORE.decode()}: 100 paths lie under it"


def test_the_directory_that_a_link_should_cover_is_above_all_of_them() -> None:
    """It was the first layer's own, of which the bytes of the others in between also begin."""
    store = b"/a/rather/long/path/to/a/store"
    layers = [b"/b", *(b"/b-c/%03d" % at for at in range(130)), b"/b/c"]
    options = b"lowerdir=" + b":".join([store + layer for layer in layers])
    remedy = decide(options, Prefix("other", b"/srv/x", b"/run/o")).remedy
    assert remedy == f"a link that covers {store.decode()}: 132 paths lie under it"


@pytest.mark.parametrize("odd", [b"//", b"/./", b"/x/../"])
def test_no_link_is_asked_for_that_would_cover_nothing(odd: bytes) -> None:
    """With the link that was asked for all was as before, and it was asked for again."""
    above, _, name = STORE.rpartition(b"/")
    options = containerd(100, above + odd + name)
    under = above + (b"/x" if odd == b"/x/../" else b"")
    remedy = decide(options, Prefix("other", b"/srv/x", b"/run/o")).remedy
    assert remedy == f"a link that covers {under.decode()}: 100 paths lie under it"
    assert decide(options, Prefix("under", under, b"/run/layers")).fits

    options = containerd(100, odd + STORE[1:])
    shown = (odd + STORE[1:]).decode()
    plainly = f"write {shown} without //, /./ and /../: links cover paths as they are written"
    assert decide(options, Prefix("other", b"/srv/x", b"/run/o")).remedy == plainly
    assert decide(options).remedy == plainly


def test_a_refusal_names_how_short_the_link_would_have_to_be() -> None:
    decided = decide(containerd(240))
    assert decided.remedy == "a link path of at most 8 bytes in place of /run/ctrdl"
    assert decide(containerd(240), Prefix("c", STORE, b"/run/cab")).fits
    assert not decide(containerd(240), Prefix("c", STORE, b"/run/cabc")).fits


def test_a_refusal_that_no_link_helps_asks_for_fewer_layers() -> None:
    remedy = decide(containerd(500)).remedy
    assert remedy == "mount at most 223 layers of this length, or merge some"
    remedy = decide(b"lowerdir=/a,upperdir=/" + b"b" * 5000).remedy
    assert remedy is not None
    assert "upperdir" in remedy


def test_when_needed_short_options_stay_as_they_are() -> None:
    short, long = containerd(40), containerd(60)
    assert decide(short, when="needed") == Plan(
        "plain", short, len(short), len(short), 4095, "mount(2)", 40, True
    )
    assert decide(long, when="needed") == decide(long)
    assert decide(short).strategy == "link"
    with pytest.raises(ValueError, match="sometimes"):
        decide(short, when="sometimes")


def test_only_the_options_that_name_layers_are_touched() -> None:
    """A path in any other option may mean something else to whoever reads it."""
    for name in (b"lowerdir", b"lowerdir+", b"datadir+", b"upperdir", b"workdir"):
        assert decide(name + b"=" + STORE + b"/1").options == name + b"=/run/ctrdl/1"
    for name in (b"xlowerdir", b"lowerdir ", b"LOWERDIR", b"comment", b"", b"x-initrd.lowerdir"):
        options = name + b"=" + STORE + b"/1,lowerdir=/a"
        assert decide(options).options == options
    assert decide(STORE + b"/1,lowerdir=/a").options == STORE + b"/1,lowerdir=/a"


def test_data_only_layers_are_shortened_and_stay_data_only() -> None:
    given = b"lowerdir=%b/1::%b/2::%b/3,metacopy=on" % (STORE, STORE, STORE)
    expected = b"lowerdir=/run/ctrdl/1::/run/ctrdl/2::/run/ctrdl/3,metacopy=on"
    assert decide(given).options == expected


def test_all_lowerdirs_are_shortened_though_the_last_wins() -> None:
    given = b"lowerdir=%b/1,lowerdir=%b/2:%b/3" % (STORE, STORE, STORE)
    decided = decide(given)
    assert decided.options == b"lowerdir=/run/ctrdl/1,lowerdir=/run/ctrdl/2:/run/ctrdl/3"
    assert decided.layers == 2


def test_a_line_that_go_programs_could_not_read_is_refused_on_large_pages() -> None:
    """With 64 KiB pages mount(2) takes what makes `runc run` fail on the whole host."""
    large = of_this_kernel(65536)
    escaped = b"lowerdir=" + b":".join(b"/%04d/%b" % (at, b"\\ " * 60) for at in range(150))
    assert len(escaped) < 30_000
    decided = plan(escaped, [], large)
    assert not decided.fits
    assert decided.options == b""
    assert (decided.limit, decided.limit_of) == (65_000, "mountinfo")
    plain = b"lowerdir=" + b":".join(b"/%0150d" % at for at in range(400))
    assert plan(plain, [], large).fits


def test_what_is_as_long_as_may_be_is_taken_and_a_byte_more_isn_t() -> None:
    """Of options as of their line in mountinfo; and what is taken is left as it is."""
    text = containerd(20)
    line_ = LIMITS._replace(mountinfo=len(text) + 600)
    size = LIMITS._replace(mount=len(text))
    for limits in (line_, size):
        assert plan(text, [LINK], limits, "needed").strategy == "plain"
        assert plan(text, [], limits).fits
    for limits in (line_._replace(mountinfo=len(text) + 599), size._replace(mount=len(text) - 1)):
        assert plan(text, [LINK], limits, "needed").strategy == "link"
        assert not plan(text, [], limits).fits


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b"lowerdir=/a:/b,rw", 0),
        (b"lowerdir=/a b", 3),
        (b"lowerdir=/a\tb", 3),
        (b"lowerdir=/a\nb", 3),
        (b"lowerdir=/a\\:b", 3),
        (b"lowerdir=/a\\,b\\,c,rw", 12),
    ],
)
def test_a_line_holds_four_bytes_for_what_would_divide_it(text: bytes, more: int) -> None:
    assert line.of_text(text, most=0, beside=10) == len(text) + more + 10
    assert line.of_text(text, most=4 * len(text) + 11, beside=10) == 0, "surely below"
    assert line.shown(b"a \t\n\\,") == 21


def test_the_limit_may_be_another_callers() -> None:
    decided = plan(containerd(30), [LINK], LIMITS, limit=500, limit_of="my buffer")
    assert decided.reason is not None
    assert "my buffer takes 500" in decided.reason
    limits = Limits(mount=500, fsconfig=255, layers=500, mountinfo=65_000)
    assert plan(containerd(30), [LINK], limits).reason == decided.reason.replace(
        "my buffer", "mount(2)"
    )


def test_parsed_options_and_their_text_give_the_same_plan() -> None:
    options = containerd(60)
    assert plan(parse(options), [LINK], LIMITS) == plan(options, [LINK], LIMITS)
    assert shortened(parse(options), [LINK]).format() == decide(options).options


@pytest.mark.parametrize(
    ("prefix", "digits"), [(STORE, 3), (b"/run/ctrdl", 3), (STORE, 5), (b"/run/c", 20)]
)
def test_the_capacity_is_what_plan_lets_through(prefix: bytes, digits: int) -> None:
    def options(layers: int) -> bytes:
        one = b"%b/%b" % (prefix, b"7" * digits)
        lower = b":".join([one + b"/fs"] * layers)
        return b"index=off,workdir=%b/work,upperdir=%b/fs,lowerdir=%b" % (one, one, lower)

    most = capacity(prefix, LIMITS, digits)
    assert plan(options(most), [], LIMITS).fits
    assert not plan(options(most + 1), [], LIMITS).fits


def test_the_capacity_is_right_to_the_byte() -> None:
    """Whatever the length of the prefix, and with that of what is left over."""
    for length in range(2, 80):
        prefix = b"/" + b"p" * (length - 1)
        most = capacity(prefix, LIMITS)
        assert plan(containerd(most, prefix), [], LIMITS).fits
        assert most == 500 or not plan(containerd(most + 1, prefix), [], LIMITS).fits


def test_the_capacity_ends_at_the_kernels_500() -> None:
    assert capacity(b"/l", of_this_kernel(65536)) == 500
    assert capacity(b"/" + b"x" * 5000, LIMITS) == 0


def test_the_python_api_takes_links_as_a_mapping() -> None:
    links = {"/run/ctrdl": STORE.decode()}
    decided = api_shorten(f"lowerdir={STORE.decode()}/1:/b", links)
    assert decided.options == b"lowerdir=/run/ctrdl/1:/b"
    assert decided.links == ("/run/ctrdl",)
    assert api_expand(decided.options, links) == b"lowerdir=%b/1:/b" % STORE
    assert not api_shorten(b"lowerdir=/abcdef", links, limit=10).fits


def test_too_many_layers_are_refused_as_they_were_given() -> None:
    """No link changes their number, so none is looked up."""
    given = containerd(501)
    decided = decide(given)
    assert (decided.strategy, decided.links, decided.layers) == ("plain", (), 501)
    assert decided.before == decided.after == len(given)
    assert decided.remedy == "merge layers: no link changes their number"


# --- the farm --------------------------------------------------------------------------------


def farm_of(paths: list[bytes], farm: bytes = b"/run/ctrdf") -> list[Prefix]:
    """A prefix for each of PATHS, as the daemon leases them."""
    shorts = [b"%b/%x" % (farm, at) for at in range(len(paths))]
    return [Prefix(short.decode(), path, short) for path, short in zip(paths, shorts, strict=True)]


def test_layers_that_no_link_makes_short_enough_go_by_the_farm() -> None:
    """270 layers: 4,933 bytes by the link alone."""
    long = containerd(270)
    paths = layers_to_lease(long, [LINK])
    assert paths == [b"%b/%d/fs" % (STORE, 100 + at) for at in range(270)]
    decided = plan(long, [LINK], LIMITS, farm=farm_of(paths))
    assert (decided.strategy, decided.fits, decided.layers) == ("farm", True, 270)
    assert decided.options.startswith(b"index=off,workdir=/run/ctrdl/999/work,upperdir=/run/ctrdl/")
    assert b"lowerdir=/run/ctrdf/0:/run/ctrdf/1:" in decided.options
    assert decided.links[:2] == ("ctrdl", "/run/ctrdf/0")
    assert expand(decided.options, [LINK, *farm_of(paths)]) == long


def test_a_link_that_the_farm_took_the_place_of_is_not_said_to_be_used() -> None:
    """Whether its short names lead there would be asked, and the mount refused for it."""
    given = containerd(270).split(b",")[3]
    decided = plan(given, [LINK], LIMITS, farm=farm_of(layers_to_lease(given, [LINK])))
    assert decided.fits
    assert "ctrdl" not in decided.links
    assert len(decided.links) == 270


def test_a_layer_that_was_not_leased_goes_by_its_link() -> None:
    given = containerd(270).split(b",")[3]
    farm = farm_of(layers_to_lease(given, [LINK])[:-1])
    decided = plan(given, [LINK], LIMITS, farm=farm)
    assert decided.options.endswith(b":/run/ctrdf/10c:/run/ctrdl/369/fs")
    apart = shortened(parse(b"upperdir=%b/1,%b" % (STORE, given)), [LINK], Tables(farm))
    assert apart.format().startswith(b"upperdir=/run/ctrdl/1,lowerdir=/run/ctrdf/0:")


def test_where_the_link_suffices_the_farm_is_left_alone() -> None:
    """Its names say less to who reads /proc/mounts, and go one day."""
    long = containerd(128)
    farm = farm_of([b"%b/%d/fs" % (STORE, 100 + at) for at in range(128)])
    assert plan(long, [LINK], LIMITS, farm=farm) == plan(long, [LINK], LIMITS)
    assert plan(containerd(40), [], LIMITS, farm=farm).strategy == "plain"


def test_upperdir_and_workdir_never_go_by_the_farm() -> None:
    """Its entries are leased for lower layers: what expires there is no place to write to."""
    options = b"lowerdir=%b,upperdir=/u/long/directory/1,workdir=/u/long/directory/1"
    options %= b":".join([b"/u/long/directory/1"] * 250)
    farm = farm_of([b"/u/long/directory/1"], b"/f")
    decided = plan(options, [], LIMITS, farm=farm)
    assert decided.options == b"lowerdir=%b,upperdir=/u/long/directory/1,workdir=%b" % (
        b":".join([b"/f/0"] * 250),
        b"/u/long/directory/1",
    )


def test_only_layers_that_the_farm_would_shorten_are_leased() -> None:
    """Each once; what is short, relative or spelt in a way that no prefix matches stays."""
    long = b"/srv/some/other/store/%d/layer"
    options = b"upperdir=%b,lowerdir=%b" % (
        long % 9,
        b":".join(
            [
                *(long % 1, b"/short/one", long % 2, long % 1, long[1:] % 3, STORE + b"/4"),
                *(rb"/srv/a/rather/long/\plain/5", rb"/srv/a/rather/long/\:colon/6"),
            ]
        ),
    )
    assert layers_to_lease(options, [LINK]) == [
        *(long % 1, long % 2, rb"/srv/a/rather/long/:colon/6"),
    ]
    added = b"lowerdir+=%b,datadir+=%b,datadir+=/srv/a/rather/long/b\\c/9" % (long % 7, long % 8)
    assert layers_to_lease(added, [LINK]) == [
        *(long % 7, long % 8, rb"/srv/a/rather/long/b\c/9"),
    ]


def test_how_long_a_layer_is_worth_a_lease_depends_on_the_farm() -> None:
    options = b"lowerdir=/layers/123456:/layers/1234567"
    assert layers_to_lease(options, []) == [b"/layers/1234567"]
    assert layers_to_lease(parse(options), [], b"/f") == [b"/layers/123456", b"/layers/1234567"]


def test_a_layer_is_leased_if_its_link_makes_it_no_shorter_than_the_farm() -> None:
    """/run/ctrdl/123 has as many bytes as /run/ctrdf/3kX will have."""
    options = b"lowerdir=%b/123:%b/1234" % (STORE, STORE)
    assert layers_to_lease(options, [LINK]) == [STORE + b"/1234"]


def test_a_layer_is_leased_without_the_slash_at_its_end_and_whole() -> None:
    options = b"lowerdir=/a/rather/long/layer/1/"
    assert layers_to_lease(options, []) == [b"/a/rather/long/layer/1"]
    options = b"lowerdir+=/a/rather/long:layer/1,lowerdir+=/a/rather/long\\layer/2/"
    assert layers_to_lease(options, []) == [
        *(b"/a/rather/long:layer/1", b"/a/rather/long\\layer/2"),
    ]


def test_a_line_that_go_programs_could_not_read_is_shortened_by_the_farm() -> None:
    """On a page of 64 KiB mount(2) would take it; `runc run` would fail on the whole host."""
    large = of_this_kernel(65536)
    paths = [b"/%04d/%b" % (at, b" " * 60) for at in range(300)]
    options = b"lowerdir=" + b":".join(paths)
    assert not plan(options, [], large, when="needed").fits
    assert len(options) < large.mount
    decided = plan(options, [], large, when="needed", farm=farm_of(layers_to_lease(options, [])))
    assert (decided.strategy, decided.fits) == ("farm", True)


def test_what_the_farm_can_not_mend_says_how_short_it_would_have_to_be() -> None:
    long = containerd(400)
    farm = farm_of(layers_to_lease(long, []))
    decided = plan(long, [LINK], LIMITS, farm=farm)
    assert decided.reason is not None
    assert "too long even through the farm" in decided.reason
    assert decided.remedy is not None
    most = int(re.findall(r"a farm path of at most (\d+) bytes", decided.remedy)[0])
    shorter = farm_of(layers_to_lease(long, []), b"/run/ctrdf"[:most])
    assert plan(long, [LINK], LIMITS, farm=shorter).fits
    longer = farm_of(layers_to_lease(long, []), b"/run/ctrdf"[: most + 1])
    assert not plan(long, [LINK], LIMITS, farm=longer).fits
