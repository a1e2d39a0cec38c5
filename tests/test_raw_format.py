"""Options and nothing else, as they are piped through `rewrite`."""

from ovl_linkd.formats import raw
from ovl_linkd.formats.judging import Means
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.shorten import Prefix

LINKS = [Prefix("l", b"/a/long/store", b"/l")]
MEANS = Means(LINKS, of_this_kernel(4096))


def test_a_newline_at_the_end_is_no_part_of_the_options_and_stays() -> None:
    for end in (b"", b"\n"):
        assert raw.rewrite(b"lowerdir=/a/long/store/1" + end, MEANS).text == b"lowerdir=/l/1" + end
        assert raw.expand(b"lowerdir=/l/1" + end, LINKS) == b"lowerdir=/a/long/store/1" + end
        assert list(raw.mounts(b"lowerdir=/a:/b" + end)) == [b"lowerdir=/a:/b"]


def test_of_what_doesn_t_fit_not_even_the_newline_is_left() -> None:
    assert raw.rewrite(b"lowerdir=/" + b"a" * 4095 + b"\n", MEANS).text == b""
