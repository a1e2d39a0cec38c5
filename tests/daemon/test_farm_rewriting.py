"""`rewrite` where links don't suffice: by names that are leased, and back by the symlinks."""

import json
import shlex
from typing import Any

import pytest

from ovl_linkd import client, published
from ovl_linkd.oci_runtime import bundle
from tests.daemon.farms import Farm
from tests.daemon.world import Daemon, command
from tests.others import NOBODY, as_user

pytestmark = pytest.mark.needs("root")

LAYERS = 150  # of some 70 bytes: too many by their own names, few enough by the farm's


@pytest.fixture
def farm(daemon: Daemon) -> Farm:
    made = Farm(daemon)
    made.store = daemon.directory / ("a-store-whose-name-is-long-enough-" + "x" * 30)
    made.configure()
    daemon.start()
    return made


def options(farm: Farm, count: int = LAYERS) -> str:
    return "index=off,lowerdir=" + ":".join(farm.layers(count))


def rewrite(farm: Farm, *words: str) -> tuple[int, str, str]:
    done = command("rewrite", "--config", farm.daemon.config, *words)
    return done.returncode, done.stdout.removesuffix("\n"), done.stderr


def test_options_that_no_link_covers_go_by_the_farm_and_come_back(farm: Farm) -> None:
    given = options(farm)
    code, said, err = rewrite(farm, "--json", given)
    assert (code, err) == (0, "")
    shown = json.loads(said)
    assert (shown["strategy"], shown["fits"], shown["layers"]) == ("farm", True, LAYERS)
    short = shown["options"]
    assert short.startswith(f"index=off,lowerdir={farm.path}/1:{farm.path}/2:")
    assert farm.status()["entries"] == LAYERS
    assert rewrite(farm, given) == (0, short, "")
    code, said, err = rewrite(farm, "--expand", short)
    assert (code, said) == (0, given)
    assert "for reading, not for mounting" in err


def test_nothing_is_leased_for_what_fits(farm: Farm) -> None:
    given = options(farm, 5)
    assert rewrite(farm, given) == (0, given, "")
    assert farm.status()["entries"] == 0


def test_a_mount_line_goes_by_the_farm(farm: Farm) -> None:
    line = f"mount -t overlay -o {shlex.quote(options(farm))} overlay /mnt  # by hand"
    code, said, err = rewrite(farm, "--as", "mount", line)
    assert (code, err) == (0, "")
    assert len(said) < 4_000
    code, expanded, _ = rewrite(farm, "--as", "mount", "--expand", said)
    # From 2.39 on mount(8) has to be told to take more than 255 bytes.
    assert (code, expanded.removeprefix("LIBMOUNT_FORCE_MOUNT2=always ")) == (0, line)


def test_what_outlives_a_boot_never_goes_by_the_farm(farm: Farm) -> None:
    """At the next boot the names would be gone, or be those of other layers."""
    line = f"overlay /mnt overlay {options(farm)} 0 0"
    code, said, _ = rewrite(farm, "--as", "fstab", line)
    assert (code, said) == (1, "")
    file = farm.daemon.directory / "config.json"
    mounts = [{"type": "overlay", "source": "overlay", "options": options(farm).split(",")}]
    file.write_text(json.dumps({"mounts": mounts}))
    before = file.read_text()
    assert rewrite(farm, "--as", "oci", "--in-place", str(file))[0] == 1
    assert file.read_text() == before
    assert farm.status()["entries"] == 0


def test_why_the_farm_was_no_help_is_said_with_the_rest(farm: Farm) -> None:
    given = options(farm)
    farm.configure(max_entries=3)
    farm.daemon.call("Reload")
    code, said, err = rewrite(farm, given)
    assert (code, said) == (1, "")
    assert "bytes too long" in err
    assert "the farm is full: 0 entries of 3 (raise farm.max-entries" in err
    farm.daemon.stop()
    assert "no farm: the daemon is not running" in rewrite(farm, given)[2]


def test_a_name_that_nobody_knows_any_more_is_reported_and_not_guessed(farm: Farm) -> None:
    (short,) = farm.lease(farm.layers(1)[0])
    given = f"lowerdir={short}:{farm.path}/zz:/other{farm.path}/yy"
    code, said, err = rewrite(farm, "--expand", given)
    assert (code, said) == (1, f"lowerdir={farm.layers(1)[0]}:{farm.path}/zz:/other{farm.path}/yy")
    what = f"{farm.path}/zz is no entry of the farm, or not any more"
    assert err == f"ovl-linkd rewrite: {what}\n"

    file = farm.daemon.directory / "options"
    file.write_text(given)
    assert rewrite(farm, "--expand", "--in-place", str(file)) == (1, "", err)
    assert file.read_text() == said


def test_a_mountinfo_line_names_its_layers_again(farm: Farm) -> None:
    """As the options of a mount that lives, as the kernel shows them."""
    layers = farm.layers(3)
    one, two, three = farm.lease(*layers)
    shown = f"rw,lowerdir+={one},lowerdir+={two},datadir+={three}"
    wanted = "rw," + ",".join(
        f"{name}+={layer}"
        for name, layer in zip(("lowerdir", "lowerdir", "datadir"), layers, strict=True)
    )
    assert rewrite(farm, "--expand", shown)[:2] == (0, wanted)


def test_who_may_not_lease_uses_what_lies_there_and_keeps_nothing_alive(farm: Farm) -> None:
    given, socket = options(farm), farm.daemon.socket

    def ask() -> dict[str, Any]:
        result: dict[str, Any] = client.call(socket, "Rewrite", options=given)["result"]
        return result

    first = as_user(NOBODY, ask)
    assert (first["fits"], first["options"]) == (False, "")
    assert farm.status()["entries"] == 0, "a question of anybody's leases nothing"
    farm.lease(*farm.layers(LAYERS))
    before = farm.status()
    second = as_user(NOBODY, ask)
    assert (second["fits"], second["strategy"]) == (True, "farm")
    assert f"{farm.path}/1:{farm.path}/2:" in second["options"]
    assert farm.status() == before, "nor does it make a lease longer"


def test_a_bundle_is_mounted_by_the_farm(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a runtime will: what a container mounts does not outlive a boot."""
    given = options(farm)
    config = {"mounts": [{"type": "overlay", "options": ["ro", *given.split(",")]}]}
    monkeypatch.setattr(published, "known", lambda _: farm.known)
    text = bundle.shortened(json.dumps(config).encode())
    assert text is not None
    ro, index, lower = json.loads(text)["mounts"][0]["options"]
    assert (ro, index) == ("ro", "index=off")
    assert lower.startswith(f"lowerdir={farm.path}/1:{farm.path}/2:")
