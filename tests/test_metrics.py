"""The metrics: read back by the parsers that others use, and written so that nobody waits."""

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client import parser as text_format
from prometheus_client.openmetrics import parser as openmetrics

from ovl_linkd.links.history import Change, Repair, Status
from ovl_linkd.links.link import Link
from ovl_linkd.links.plot import Trouble
from ovl_linkd.links.terms import Status as FarmStatus
from ovl_linkd.links.terms import Wanted
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.replacing import replace
from ovl_linkd.service import textfile
from ovl_linkd.service.metrics import BUCKETS, STATES, Metrics, Moment, layers
from ovl_linkd.service.textfile import Textfile
from ovl_linkd.supervisors import Supervisor
from tests.daemon.world import mount, umount

STORE = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
# The strict reader, and that of the older format.
families: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families
families_of_text: Callable[[str], Iterable[Metric]] = text_format.text_string_to_metric_families
ALERTS = Path(__file__).parents[1] / "docs" / "alerts.example.yml"


def status(state: str = "ok", fighting: bool = False) -> Status:
    link = Link("ctrdl", "/run/ctrdl", STORE)
    return Status(link, state, None, True, None, None, 0.0, 0, None, None, fighting)


def repaired(took: float, found: str = "missing") -> Change:
    return Change(status(), status(), Repair(0.0, found, took))


def text(metrics: Metrics, *statuses: Status, **moment: Any) -> str:
    usual: dict[str, Any] = {"overflows": 0, "unwatched": 0, "resync_interval": 60.0}
    return metrics.text(Moment(now=1e9, statuses=statuses, **{**usual, **moment}))


def samples(exposition: str) -> dict[tuple[str, ...], float]:
    """(name, label values…) -> value, as the strict parser of OpenMetrics understands it."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(exposition)
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3", 999.0, {})


def test_it_says_all_that_was_promised(metrics: Metrics) -> None:
    metrics.kept(layers([Link("ctrdl", "/run/ctrdl", STORE)], of_this_kernel(4096)))
    metrics.changed([repaired(1e-4), repaired(1e-3, "wrong"), Change(None, status())])
    metrics.reloaded(True)
    metrics.reloaded(True)
    metrics.reloaded(False)
    states = [status(), status("ok", fighting=True), status("blocked")]
    found = samples(text(metrics, *states, overflows=7, unwatched=2))
    counts = {state: found["ovl_linkd_links", state] for state in STATES}
    assert counts == {**dict.fromkeys(STATES, 0), "ok": 2, "blocked": 1}
    assert {key: value for key, value in found.items() if not key[0].startswith("ovl_linkd_repair_")
            and key[0] != "ovl_linkd_links"} == {
        ("ovl_linkd_links_fighting",): 1,
        ("ovl_linkd_link_layers", "ctrdl", "plain"): 51,
        ("ovl_linkd_link_layers", "ctrdl", "short"): 223,
        ("ovl_linkd_repairs_total", "missing"): 1,
        ("ovl_linkd_repairs_total", "wrong"): 1,
        ("ovl_linkd_exec_supervisors",): 0,
        ("ovl_linkd_watch_overflows_total",): 7,
        ("ovl_linkd_unwatched_directories",): 2,
        ("ovl_linkd_resync_interval_seconds",): 60,
        ("ovl_linkd_config_reloads_total", "ok"): 2,
        ("ovl_linkd_config_reloads_total", "failed"): 1,
        ("ovl_linkd_config_last_reload_successful",): 0,
        ("ovl_linkd_build_info", "1.2.3"): 1,
        ("ovl_linkd_start_time_seconds",): 999,
        ("ovl_linkd_written_timestamp_seconds",): 1e9,
    }  # fmt: skip


FARM = FarmStatus(
    Wanted("/run/ctrdf", 3600.0, 1000), None,
    entries=12, oldest=5.0, leases=40, expiries=3, repairs=2,
)  # fmt: skip


def test_a_farm_has_figures_of_its_own_and_no_farm_none(metrics: Metrics) -> None:
    found = samples(text(metrics, farm=FARM))
    assert {key[0]: value for key, value in found.items() if "farm" in key[0]} == {
        "ovl_linkd_farm_well": 1,
        "ovl_linkd_farm_entries": 12,
        "ovl_linkd_farm_most_entries": 1000,
        "ovl_linkd_farm_leases_total": 40,
        "ovl_linkd_farm_expiries_total": 3,
        "ovl_linkd_farm_repairs_total": 2,
    }
    sick = FARM._replace(trouble=Trouble("blocked", "a symlink is there", "move it away"))
    assert samples(text(metrics, farm=sick))["ovl_linkd_farm_well",] == 0
    assert "farm" not in text(metrics)


SUPERVISOR = Supervisor(
    7, 1, ["/usr/bin/containerd", "-x"], 6, "2026-01-01T00:00:00Z",
    seen=90, rewritten=75, refused=5,
)  # fmt: skip


def test_each_supervisor_of_exec_counts_for_itself(metrics: Metrics) -> None:
    """What one counted goes with it: a sum over all would go down, as no counter may."""
    other = SUPERVISOR._replace(pid=8, refused=0)
    found = samples(text(metrics, supervisors=[SUPERVISOR, other]))
    assert found["ovl_linkd_exec_supervisors",] == 2
    calls = {key[2:]: value for key, value in found.items() if "exec_calls" in key[0]}
    assert calls == {
        ("7", "untouched"): 10, ("7", "rewritten"): 75, ("7", "refused"): 5,
        ("8", "untouched"): 15, ("8", "rewritten"): 75, ("8", "refused"): 0,
    }  # fmt: skip


def test_a_repair_s_time_falls_into_its_bucket(metrics: Metrics) -> None:
    """A bound belongs to the bucket below it: `le` is "less or equal"."""
    metrics.changed(map(repaired, [49e-6, 50e-6, 51e-6, 1.0, 3.0]))
    found = samples(text(metrics))
    name = "ovl_linkd_repair_duration_seconds"
    buckets = [found[f"{name}_bucket", repr(bound)] for bound in BUCKETS]
    assert buckets == [2, *[3] * (len(BUCKETS) - 2), 4]
    assert found[f"{name}_bucket", "+Inf"] == found[(f"{name}_count",)] == 5
    assert found[(f"{name}_sum",)] == pytest.approx(4.00015)


def test_the_older_text_format_is_understood_too(metrics: Metrics) -> None:
    """node_exporter's textfile collector reads no other, and drops the whole file for one word.

    It knows neither OpenMetrics' types `info` and `stateset` nor timestamps.
    """
    metrics.changed([repaired(1e-4)])
    exposition = text(metrics, status())
    declared = re.findall(r"^# TYPE \S+ (\S+)$", exposition, re.MULTILINE)
    assert set(declared) == {"gauge", "counter", "histogram"}
    found: dict[tuple[str, ...], float] = {}
    for family in families_of_text(exposition):
        for sample in family.samples:
            assert sample.timestamp is None
            found[(sample.name, *sample.labels.values())] = sample.value
    assert found == samples(exposition)
    assert exposition.endswith("\n# EOF\n")


def test_names_keep_to_the_conventions(metrics: Metrics) -> None:
    for family in families(text(metrics)):
        assert family.name.startswith("ovl_linkd_")
        assert not re.search("_(ms|us|usec|milliseconds|minutes|kilobytes)(_|$)", family.name)
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert {sample.name for sample in family.samples} == {f"{family.name}_total"}


def test_a_second_daemon_s_file_does_not_clash_with_the_first_s() -> None:
    """Two files that say the same of different daemons make node_exporter's answer an error."""
    evil = '/etc/"a\\b"\n} 1\nforged 1\n\udcff.yaml'
    first = samples(text(Metrics("1", 0.0, {}), status()))
    second = text(Metrics("1", 0.0, {"config": evil}), status())
    assert not first.keys() & samples(second).keys()
    for family in families(second):
        for sample in family.samples:
            assert sample.labels["config"] == '/etc/"a\\b"\\n} 1\\nforged 1\\n\\xff.yaml'


def test_the_example_alerts_ask_for_what_there_is(metrics: Metrics) -> None:
    """An alert on a name with a typing error is never raised."""
    metrics.kept(layers([Link("ctrdl", "/run/ctrdl", STORE)], of_this_kernel()))
    names = {key[0] for key in samples(text(metrics, farm=FARM, supervisors=[SUPERVISOR]))}
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]:
        used = set(re.findall(r"ovl_linkd_\w+", rule["expr"]))
        assert used, rule
        assert used <= names, rule
        for states in re.findall(r'state=~?"([^"]+)"', rule["expr"]):
            assert set(states.split("|")) <= set(STATES)
        assert rule["annotations"]["summary"]


# --- the file --------------------------------------------------------------------------------


def test_a_reader_has_the_old_text_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.prom"
    replace(str(path), "old\n")
    with path.open() as reader:
        mask = os.umask(0o077)
        try:
            replace(str(path), "new\n")
        finally:
            os.umask(mask)
        assert reader.read() == "old\n"
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["metrics.prom"]


def test_a_symlink_in_a_foreign_directory_leads_nobody_astray(tmp_path: Path) -> None:
    """The collector's directory may be its user's; the daemon is root."""
    victim = tmp_path / "shadow"
    victim.write_text("untouched")
    for name in ("metrics.prom", "metrics.prom.new"):
        (tmp_path / name).symlink_to(victim)
    replace(str(tmp_path / "metrics.prom"), "text\n")
    assert victim.read_text() == "untouched"
    assert (tmp_path / "metrics.prom").read_text() == "text\n"
    assert sorted(os.listdir(tmp_path)) == ["metrics.prom", "shadow"]


def test_what_can_t_be_replaced_stays_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "metrics.prom").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace(str(tmp_path / "metrics.prom"), "text\n")
    assert os.listdir(tmp_path) == ["metrics.prom"]


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """A file system of two pages."""
    place = scratch / "m"
    place.mkdir()
    mount("small", place, "tmpfs", data="size=8k,mode=0755")
    yield place
    umount(place)


def test_on_a_full_disk_the_old_text_stays_whole(small: Path) -> None:
    path = small / "metrics.prom"
    replace(str(path), "old\n")
    with pytest.raises(OSError, match="No space left"):
        replace(str(path), "x" * 9000)
    assert path.read_text() == "old\n"
    assert os.listdir(small) == ["metrics.prom"]


def test_a_storm_of_changes_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 repairs must not wait for 10,000 files."""
    monkeypatch.setattr(textfile, "PAUSE", 0.01)

    async def storm() -> int:
        written = 0
        done = asyncio.Event()

        def make() -> str:
            nonlocal written
            written += 1
            return "text\n"

        def told(_path: str, trouble: str | None) -> None:
            assert trouble is None
            done.set()

        file = Textfile(make, told)
        file.move(str(tmp_path / "metrics.prom"))
        for _ in range(10_000):
            file.soon()
        assert written == 0
        await done.wait()
        file.soon()
        file.write()  # a resync meanwhile: what was to be written is
        done.clear()
        file.soon()
        await done.wait()
        return written

    assert asyncio.run(storm()) == 3
