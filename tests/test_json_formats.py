"""OCI's config.json and containerd's mounts: the options of overlays change, no other byte."""

import json

import pytest

from ovl_linkd.formats import containerd, oci
from ovl_linkd.formats.judging import Means
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Prefix

STORE = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
LINKS = [
    Prefix("ctrdl", STORE.encode(), b"/run/ctrdl"),
    Prefix("odd", '/srv/a"b\\c\nd/é\U0001f600'.encode(), b"/o"),
    Prefix("bytes", b"/srv/\xff", b"/x"),
]
LIMITS = of_this_kernel(4096)

CONFIG = """{
\t"ociVersion": "1.0.2", "unknown": {"number": 1.50, "escaped": "\\u002f\\/"},
\t"root": {"path": "rootfs"},
\t"mounts": [
\t\t{"destination": "/proc", "type": "proc", "source": "proc", "options": ["lowerdir=@/1"]},
\t\t{ "options" : [ "ro", "lowerdir=@/2:@/1", "upperdir=@/3","workdir=\\/w" ],
\t\t  "type":"overlay", "source": "@", "destination": "/m"},
\t\t{"destination": "/b", "type": "overlay", "source": "@/1", "options": ["bind", "lowerdir=@/1"]},
\t\t{"destination": "/n", "type": "overlay", "source": "overlay"}
\t]
}
"""


def config(*options: str, **more: object) -> bytes:
    mount = {"destination": "/m", "type": "overlay", "source": "overlay", "options": options}
    return json.dumps({"mounts": [mount], **more}).encode()


def options_of(text: bytes) -> list[str]:
    found: list[str] = json.loads(text)["mounts"][0]["options"]
    return found


def layers(count: int, root: str = STORE) -> str:
    return "lowerdir=" + ":".join(f"{root}/{100 + at}/fs" for at in range(count))


def test_only_the_options_of_overlays_change() -> None:
    text = CONFIG.replace("@", STORE).encode()
    result = oci.rewrite(text, Means(LINKS, LIMITS))
    expected = CONFIG.replace(
        '"lowerdir=@/2:@/1", "upperdir=@/3"',
        '"lowerdir=/run/ctrdl/2:/run/ctrdl/1", "upperdir=/run/ctrdl/3"',
    )
    assert result.text.decode() == expected.replace("@", STORE)
    (plan,) = result.plans
    # The flag is no part of what the kernel reads as text.
    assert plan.options == b"lowerdir=/run/ctrdl/2:/run/ctrdl/1,upperdir=/run/ctrdl/3,workdir=/w"
    assert oci.expand(result.text, LINKS) == text


@pytest.mark.parametrize(
    ("given", "short"),
    [
        (f'"lowerdir={STORE}/1"', '"lowerdir=/run/ctrdl/1"'),
        (f'"ro,lowerdir={STORE}/1:/b"', '"ro,lowerdir=/run/ctrdl/1:/b"'),
        (f'"lowerdir={STORE}/1".'.replace("/", "\\/")[:-1], '"lowerdir=/run/ctrdl\\/1"'),
        (f'"\\u006cowerdir={STORE}/\\u00e9"', '"\\u006cowerdir=/run/ctrdl/\\u00e9"'),
        (f'"lowerdir={STORE}/\\ud83d\\ude00"', '"lowerdir=/run/ctrdl/\\ud83d\\ude00"'),
        ('"lowerdir=/srv/a\\"b\\\\\\\\c\\nd/\\u00e9\\ud83d\\ude00/1"', '"lowerdir=/o/1"'),
        ('"lowerdir=/srv/a\\"b\\\\\\\\c\\u000ad/é😀/1"', '"lowerdir=/o/1"'),
    ],
)  # fmt: skip
def test_escapes_are_read_and_kept(given: str, short: str) -> None:
    text = '[{"type":"overlay","options":[%s]}]'
    result = containerd.rewrite((text % given).encode(), Means(LINKS, LIMITS))
    assert result.text.decode() == text % short
    again = containerd.expand(result.text, LINKS)
    assert json.loads(again) == json.loads(text % given)


def test_what_json_cannot_hold_is_not_written() -> None:
    with pytest.raises(Malformed, match="line 1, column 13: JSON can't hold a path") as caught:
        oci.expand(config("lowerdir=/x/1"), LINKS)
    assert caught.value.hint


def test_a_config_without_mounts_of_layers_stays() -> None:
    for text in (b"{}", b'{"mounts": null}', b'{"mounts": [{"options": ["lowerdir=/a"]}]}'):
        assert oci.rewrite(text, Means(LINKS, LIMITS)) == (text, ())


def test_a_config_may_be_larger_than_any_options() -> None:
    text = b" " * (2 << 20) + config(layers(2))
    assert options_of(oci.rewrite(text, Means(LINKS, LIMITS)).text) == [layers(2, "/run/ctrdl")]


@pytest.mark.parametrize("text", ["[%s]", '{"mounts": [%s]}'])
def test_containerd_has_a_list_alone_or_in_an_answer(text: str) -> None:
    """Of its Go type as well, which has capitals for keys."""
    mounts = (
        '{"type":"overlay","source":"overlay","target":"","options":["index=off","lowerdir=@/1"]},'
        '{"Type":"overlay","Source":"overlay","Options":["lowerdir=@/1"]},'
        '{"type":"bind","source":"@/1","options":["rbind","ro"]}'
    )
    long = (text % mounts.replace("@", STORE)).encode()
    result = containerd.rewrite(long, Means(LINKS, LIMITS))
    assert result.text == long.replace(f"lowerdir={STORE}".encode(), b"lowerdir=/run/ctrdl")
    assert containerd.expand(result.text, LINKS) == long
    for other in (b"[]", b"{}", b'{"mounts": null}'):
        assert containerd.rewrite(other, Means(LINKS, LIMITS)) == (other, ())


def test_what_no_runtime_could_hand_over_is_not_written() -> None:
    """runc clips such options, and the kernel mounts what is left of them."""
    result = oci.rewrite(config(layers(300)), Means(LINKS, LIMITS))
    assert result.text == b""
    assert "mount(2) takes 4,095" in str(result.plans[0].reason)


def test_a_label_that_the_runtime_adds_takes_its_room() -> None:
    """runc puts context="…" behind the options it was given."""
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    room = 4095 - len(f',context="{label}"')
    for size, fits in ((room, True), (room + 1, False)):
        options = "lowerdir=/" + "a" * (size - len("lowerdir=/"))
        result = oci.rewrite(config(options, linux={"mountLabel": label}), Means(LINKS, LIMITS))
        assert [plan.fits for plan in result.plans] == [fits]
    assert "beside the label" in str(result.plans[0].reason)


def test_a_flag_takes_no_room() -> None:
    options = "lowerdir=/" + "a" * (4095 - len("lowerdir=/"))
    flags = ["ro", "nosuid", "rprivate", "rro"]
    assert oci.rewrite(config(*flags, options), Means(LINKS, LIMITS)).plans[0].fits
    assert not oci.rewrite(config(*flags, options, "volatile"), Means(LINKS, LIMITS)).plans[0].fits


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "line 1, column 1: no value"),
        (CONFIG[:-80].encode(), "line 8, column "),
        (b"[]", "config.json is a list"),
        (b'{"mounts": {}}', "line 1, column 12: mounts is an object"),
        (b'{"mounts": [1]}', "a mount is a number"),
        (b'{"mounts": [{"type": "overlay", "options": "lowerdir=/a"}]}', "options is a string"),
        (b'{"mounts": [{"type": "overlay", "options": [1]}]}', "an option is a number"),
        (b'{"mounts": [], "Mounts": []}', "mounts is there twice"),
        (config("lowerdir=/a:::/b"), "line 1, column 13: an empty layer"),
        (config("lowerdir=/a\\"), "lone backslash"),
        (config("lowerdir=/a\0"), "NUL"),
        (config("lowerdir=/a\ud800"), "not UTF-8"),
        (b'{"mounts": [{"type": "overlay", "options": ["lowerdir=/\xff"]}]}', "not UTF-8"),
        (b"\0", "NUL"),
        (b" " * ((16 << 20) + 1), "16,777,217 bytes"),
    ],
)
def test_what_is_malformed_is_reported_with_its_place(text: bytes, says: str) -> None:
    for call in (
        lambda: oci.rewrite(text, Means(LINKS, LIMITS)),
        lambda: oci.expand(text, LINKS),
    ):
        with pytest.raises(Malformed, match=says) as caught:
            call()
        assert caught.value.hint


def test_a_path_over_two_strings_is_refused_only_where_it_would_change() -> None:
    """A backslash at the end of one escapes the comma with which the runtime joins them."""
    prefix = [Prefix("comma", b"/srv/long,name", b"/c")]
    text = config("lowerdir=/srv/long\\", "name/1")
    with pytest.raises(Malformed, match="a backslash at the end of one option"):
        oci.rewrite(text, Means(prefix, LIMITS))
    assert oci.rewrite(text, Means(LINKS, LIMITS)).text == text


def test_a_large_config_is_read() -> None:
    """The parser goes on in steps: 40,000 values, and one string of 10 KB among them."""
    text = config(layers(128), linux={"seccomp": [{"names": ["a", "b"], "action": "x"}] * 10_000})
    result = oci.rewrite(text, Means(LINKS, LIMITS))
    assert options_of(result.text) == [layers(128, "/run/ctrdl")]
    assert result.text.replace(b"/run/ctrdl", STORE.encode()) == text
