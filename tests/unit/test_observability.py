"""What watches the processes, against the processes as they are: targets, metrics and labels are there."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from test_compose import LISTENERS, ROOT, app_of, module_of, service_of, settings_class

from semlink.service.listener import Health

FOLDER = ROOT / "deploy" / "observability"
PROVISIONING = FOLDER / "grafana" / "provisioning"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "semlink.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
WANTED = {
    *("semlink_server_requests_total", "semlink_server_request_seconds_bucket", "semlink_server_votes_total"),
    *("semlink_server_queue_depth", "semlink_server_queue_wait_seconds_bucket", "semlink_server_batch_size_sum"),
    *("semlink_server_inference_seconds_bucket", "semlink_server_received_bits_total"),
    *("semlink_server_frames_rejected_total", "semlink_channel_bits_flipped_total"),
    *("semlink_channel_blocks_lost_total", "process_resident_memory_bytes"),
}


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def metrics_of(name: str) -> dict[str, set[str]]:
    """The series that a service's process answers with -> names of their labels."""
    app = app_of(module_of(name), Health(ready=True))
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(
        TestClient(app, base_url="http://localhost").get("/metrics").text
    ):
        # A family without series yet, whose labels take names that no list has, still tells its own name.
        labels.setdefault(family.name + ("_total" if family.type == "counter" else ""), set())
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


@pytest.fixture(scope="module")
def metrics():
    found = {name: metrics_of(name) for name in LISTENERS}
    both = {metric: labels for of in found.values() for metric, labels in of.items()}
    return both | {"up": set()}  # Prometheus' own


def test_prometheus_asks_the_processes_where_they_answer():
    jobs = load(FOLDER / "prometheus.yml")["scrape_configs"]
    targets = [target for job in jobs for static in job["static_configs"] for target in static["targets"]]
    ports = {name: settings_class(module_of(name)).model_fields["http_port"].default for name in LISTENERS}
    assert targets == [f"{name}:{port}" for name, port in ports.items()]
    assert [job["job_name"] for job in jobs] == LISTENERS
    assert all("metrics_path" not in job for job in jobs), "/metrics is the default"


@pytest.mark.parametrize(("expression", "legend"), EXPRESSIONS)
def test_no_panel_is_dead(expression, legend, metrics):
    named = set(re.findall(r"\b(?:semlink|process)_\w+|\bup\b", expression))
    assert named, "it names no metric"
    assert named <= set(metrics)
    labels = {"job", "instance"}.union(*(metrics[name] for name in named))
    used = re.findall(r"by \(([^)]*)\)", expression) + re.findall(r"\{(\w+)[=!~]", expression)
    assert {label.strip() for group in used for label in group.split(",")} <= labels
    grouped = {label.strip() for group in used for label in group.split(",")} or {"job", "instance"}
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped
    if any(name.endswith(("_total", "_sum", "_count", "_bucket")) for name in named):
        assert re.fullmatch(r".*rate\([^()]*\[\$__rate_interval\]\).*", expression), "a counter without its rate"


def test_the_dashboard_shows_what_one_wants_to_know():
    assert set(re.findall(r"\w+", " ".join(expression.values[0] for expression in EXPRESSIONS))) >= WANTED


def test_panels_lie_side_by_side_and_are_told_apart():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["title"] and panel["description"] for panel in PANELS)


def test_grafana_finds_its_sources_and_the_dashboard_its():
    sources = {
        source["uid"]: source for source in load(PROVISIONING / "datasources" / "datasources.yml")["datasources"]
    }
    for panel in PANELS:
        for asked in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert sources[asked["uid"]]["type"] == asked["type"]
    for source in sources.values():
        url = urlsplit(source["url"])
        published = {mapping.rpartition(":")[2] for mapping in service_of(url.hostname)["ports"]}
        assert str(url.port) in published
    interval = load(FOLDER / "prometheus.yml")["global"]["scrape_interval"]
    assert sources["prometheus"]["jsonData"]["timeInterval"] == interval


def test_what_is_mounted_is_there_and_where_it_is_looked_for():
    mounts = {}
    for name in ("prometheus", "grafana"):
        for source, target, access in (mount.split(":") for mount in service_of(name)["volumes"]):
            assert (ROOT / source).exists()
            assert access == "ro"
            mounts[target] = ROOT / source
    assert mounts["/etc/prometheus/prometheus.yml"].is_file()
    assert mounts["/etc/grafana/provisioning"] == PROVISIONING
    (provider,) = load(PROVISIONING / "dashboards" / "dashboards.yml")["providers"]
    assert list(mounts[provider["options"]["path"]].glob("*.json"))
    home = Path(service_of("grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounts[str(home.parent)] / home.name).is_file()


@pytest.mark.parametrize("name", ["prometheus", "grafana", "jaeger"])
def test_who_watches_is_pinned_and_seen_from_this_machine_only(name):
    assert re.fullmatch(r"\S+:v?\d+\.\d+\.\d+", service_of(name)["image"])
    assert all(mapping.startswith("127.0.0.1:") for mapping in service_of(name)["ports"])


def test_every_span_is_in_the_documentation():
    documented = (ROOT / "docs" / "observability.md").read_text()
    sources = [
        file
        for room in ("device", "channel_emulator", "server", "semlink")
        for file in (ROOT / room).rglob("*.py")
    ]
    noted = re.compile(r'\b(?:begin|record|span)\(\s*"([^"]+)"')
    names = {name for file in sources for name in noted.findall(file.read_text())}
    assert {"frame", "stored frame", "impair", "inference", "http"} <= names
    assert sorted(name for name in names if f"`{name}`" not in documented) == []
