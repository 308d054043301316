"""The compose file and the Dockerfile against the processes as they are: names, ports, commands, health, steps."""

import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from packaging.requirements import Requirement
from processes import keep_port
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from redis_server import redis_program

from semlink.decision.calibration import read_calibration
from semlink.service.admission import Admission
from semlink.service.listener import Health
from semlink.service.settings import ProcessSettings, SecretsInEnvironment, read_settings

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = PROJECT["project"]["scripts"]
DEVICES = ["device-1", "device-2", "device-3", "device-4"]
LISTENERS = ["server", "channel"]
SERVICES = [*LISTENERS, *DEVICES]
"""What is made here; beside it there are a Redis, and what names the run."""
WATCHERS = ["prometheus", "grafana", "jaeger"]
STUDIO = "studio"
"""What one may start beside; it listens for HTTP alone, and has the server's image."""


def interpolate(text: str) -> str:
    """What compose does to the file where none of its variables is set: ${NAME:-default} -> default, $$ -> $."""
    text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", text)
    assert "$" not in text.replace("$$", ""), "a variable has no default"
    return text.replace("$$", "$")


COMPOSE = yaml.safe_load(interpolate((ROOT / "docker-compose.yml").read_text()))


def dockerfile() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Stages of the Dockerfile: name -> (what it starts from, its instructions with their arguments)."""
    stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    instructions: list[tuple[str, str]] = []
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            instructions = []
            stages[name] = base, instructions
        else:
            instructions.append((instruction, re.sub(r"\s+", " ", arguments).strip()))
    return stages


STAGES = dockerfile()


def instructions_of(stage: str) -> list[tuple[str, str]]:
    """A stage's own instructions after those of the stages that it starts from."""
    if stage not in STAGES:
        return []
    base, own = STAGES[stage]
    return [*instructions_of(base), *own]


def pip_steps(text: str) -> list[str]:
    """The `pip install` commands of a text, in their order."""
    return [command.strip() for command in re.findall(r"pip install [^;\n#]*", text)]


def service_of(name: str) -> dict:
    return COMPOSE["services"][name]


def module_of(name: str) -> str:
    """The module whose console script the service runs."""
    script = SCRIPTS[shlex.split(service_of(name)["command"])[0]]
    return script.partition(".")[0]


def settings_class(module: str) -> type[ProcessSettings]:
    """The settings of the process; those of a command beside it are fewer."""
    settings = import_module(f"{module}.settings")
    defined = [
        value
        for value in vars(settings).values()
        if inspect.isclass(value) and issubclass(value, ProcessSettings) and value.__module__ == settings.__name__
    ]
    return max(defined, key=lambda each: len(each.model_fields))


@pytest.fixture
def settings_of(monkeypatch):
    """Reads a service's settings as its process would: flags of its command, variables of its environment."""

    def read(name: str) -> ProcessSettings:
        for variable in [variable for variable in os.environ if variable.startswith("SEMLINK_")]:
            monkeypatch.delenv(variable)
        for variable, value in service_of(name).get("environment", {}).items():
            monkeypatch.setenv(variable, str(value))
        module = module_of(name)
        return read_settings(settings_class(module), module, shlex.split(service_of(name)["command"])[1:])

    return read


def app_of(module: str, health: Health) -> FastAPI:
    """The HTTP application that the process serves."""
    if module == STUDIO:
        from studio.api import create_app as create_studio_app
        from studio.settings import StudioSettings
        from studio.studio import Studio

        return create_studio_app(Studio(StudioSettings()), health, Admission())
    if module == "server":
        from server.metrics import Metrics
        from server.recognition import Recognizer
        from server.rest import create_app
        from server.sessions import Rules, Sessions
        from server.sessions.memory import MemoryStore
        from server.settings import ServerSettings

        metrics = Metrics()
        sessions = Sessions(MemoryStore(Rules(max_objects=1, ttl_seconds=60), metrics), 1, metrics)
        return create_app(
            Recognizer(ServerSettings(), sessions, metrics, read_calibration()),
            sessions,
            metrics,
            health,
            Admission(),
            1.0,
            max_held_bytes=1,
        )
    from channel_emulator.control import control_plane
    from channel_emulator.live import LiveImpairments
    from channel_emulator.metrics import Metrics
    from channel_emulator.per_device import Impairments

    return control_plane(LiveImpairments(Impairments(default={"type": "none"})), Metrics(), health, Admission())


def test_the_services_are_the_demos_and_those_that_watch_only_where_they_are_asked_for():
    profiles = {name: service.get("profiles") for name, service in COMPOSE["services"].items()}
    optional = {name: ["watch"] for name in WATCHERS} | {"proxy": ["proxy"], STUDIO: ["studio"]}
    assert profiles == dict.fromkeys(["redis", "run", *SERVICES]) | optional


@pytest.mark.parametrize("name", [*SERVICES, STUDIO])
class TestService:
    def test_module_can_be_run(self, name):
        assert importlib.util.find_spec(f"{module_of(name)}.__main__")

    def test_settings_are_the_processes_own(self, name, settings_of):
        settings_of(name)  # an unknown flag, or a value that is refused, exits
        # Unknown variables are ignored by a process, so a misspelt one would go unnoticed.
        declared = settings_class(module_of(name)).model_fields | SecretsInEnvironment.model_fields
        known = {f"SEMLINK_{field.upper()}" for field in declared}
        assert set(service_of(name).get("environment", {})) <= known

    def test_starts_after_what_it_needs(self, name):
        needed = {"server": "redis", "channel": "server"}.get(name, "channel")
        waits = {needed: {"condition": "service_healthy"}}
        if name in DEVICES:
            waits["run"] = {"condition": "service_completed_successfully"}
        assert service_of(name).get("depends_on") == waits
        assert "healthcheck" in service_of(needed)


@pytest.mark.parametrize("name", LISTENERS)
class TestListener:
    def test_build_target_and_arguments_are_the_dockerfiles(self, name):
        build = service_of(name)["build"]
        assert build["context"] == "."
        copies = [arguments for kind, arguments in instructions_of(build["target"]) if kind == "COPY"]
        (stage,) = re.findall(r"--from=(\S+)", " ".join(copies))
        declared = {arguments.partition("=")[0] for kind, arguments in instructions_of(stage) if kind == "ARG"}
        assert set(build.get("args", {})) == declared

    def test_listens_where_others_reach_it(self, name, settings_of):
        settings = settings_of(name)
        assert settings.host == "0.0.0.0"
        published = {mapping.rpartition(":")[2] for mapping in service_of(name)["ports"]}
        assert published == {str(settings.grpc_port), str(settings.http_port)}

    def test_image_tells_its_ports(self, name, settings_of):
        settings = settings_of(name)
        target = service_of(name)["build"]["target"]
        exposed = [
            arguments.split() for instruction, arguments in instructions_of(target) if instruction == "EXPOSE"
        ]
        assert exposed == [[str(settings.grpc_port), str(settings.http_port)]]

    def test_image_starts_it(self, name):
        commands = [
            arguments
            for instruction, arguments in instructions_of(service_of(name)["build"]["target"])
            if instruction == "CMD"
        ]
        assert yaml.safe_load(commands[-1]) == shlex.split(service_of(name)["command"])[:1]


@pytest.mark.parametrize("name", [*LISTENERS, STUDIO])
class TestHealthCheck:
    def test_asks_what_the_process_serves(self, name, settings_of):
        kind, program, flag, code = service_of(name)["healthcheck"]["test"]
        assert (kind, program, flag) == ("CMD", "python", "-c")
        compile(code, "healthcheck", "exec")
        (address,) = re.findall(r'urlopen\("([^"]+)"', code)
        url = urlsplit(address)
        assert url.scheme == "http"
        assert url.hostname == "127.0.0.1"
        assert url.port == settings_of(name).http_port
        for ready, status in [(True, 200), (False, 503)]:
            client = TestClient(app_of(module_of(name), Health(ready=ready)), base_url="http://localhost")
            assert client.get(url.path).status_code == status


class TestStudio:
    def test_it_is_reached_from_this_machine_alone(self, settings_of):
        settings = settings_of(STUDIO)
        assert settings.host == "0.0.0.0"
        assert service_of(STUDIO)["ports"] == [f"127.0.0.1:{settings.http_port}:{settings.http_port}"]

    def test_it_attaches_to_the_server_and_the_channel(self, settings_of):
        settings = settings_of(STUDIO)
        for name, addresses in (("server", settings.server), ("channel", settings.channel)):
            there = settings_of(name)
            assert addresses == f"{name}:{there.grpc_port},{name}:{there.http_port}"
            assert name in there.allowed_hosts

    def test_it_shows_the_key_that_devices_show_and_wants_those_that_the_server_wants(self):
        environment = service_of(STUDIO)["environment"]
        assert "SEMLINK_API_KEY" in environment.keys() & service_of("device-1")["environment"].keys()
        assert "SEMLINK_API_KEYS" in environment.keys() & service_of("server")["environment"].keys()

    def test_its_logs_are_where_it_can_write(self, settings_of):
        (mount,) = service_of(STUDIO)["tmpfs"]
        assert Path(mount.partition(":")[0]) in settings_of(STUDIO).out.parents


def test_each_image_is_built_once():
    """Compose builds in parallel, and two builds of one name can fail."""
    everything = [*SERVICES, STUDIO]
    images = {name: service_of(name)["image"] for name in everything}
    assert [name for name in everything if "build" in service_of(name)] == LISTENERS
    assert images["channel"] != images["server"]
    for name in [*DEVICES, STUDIO]:
        assert images[name] == images["server"]
        assert service_of(name)["pull_policy"] == "never"


def test_the_proxy_leads_to_the_server_and_listens_where_its_port_is_published(settings_of):
    proxy, server = service_of("proxy"), settings_of("server")
    environment = proxy["environment"]
    assert environment["SEMLINK_GRPC"] == f"server:{server.grpc_port}"
    assert environment["SEMLINK_HTTP"] == f"server:{server.http_port}"
    (port,) = proxy["ports"]
    assert environment["SEMLINK_PROXY_BIND"] == f":{port.partition(':')[2]}"
    configuration, tls = proxy["volumes"]
    assert (ROOT / configuration["source"]).is_file()
    assert environment["SEMLINK_PROXY_CERTIFICATE"].startswith(f"{tls['target']}/")
    asked = set(re.findall(r"\$\{?(SEMLINK_\w+)", (ROOT / configuration["source"]).read_text()))
    assert asked == set(environment)


class TestRedis:
    def test_is_where_the_server_looks_for_it(self, settings_of):
        address = urlsplit(settings_of("server").redis)
        assert (address.scheme, address.hostname, address.port) == ("redis", "redis", 6379)

    def test_is_reached_by_nobody_outside(self):
        assert "ports" not in service_of("redis")

    def test_keeps_what_it_has_answered_for(self):
        words = shlex.split(service_of("redis")["command"])
        assert words[0] == "redis-server"
        options = dict(zip(words[1::2], words[2::2], strict=True))
        assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "always")
        assert options["--maxmemory-policy"] == "noeviction"
        (mount,) = service_of("redis")["volumes"]
        assert (mount["type"], mount["target"]) == ("volume", "/data")  # where that image keeps its files
        assert mount["source"] in COMPOSE["volumes"]

    def test_understands_its_command_and_its_health_check(self, request, tmp_path):
        """The command itself, with a port and a folder of this machine."""
        words = [redis_program(request.node.nodeid), *shlex.split(service_of("redis")["command"])[1:]]
        kept = keep_port(0)
        port = kept.getsockname()[1]
        process = subprocess.Popen([*words, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)])
        try:
            kind, program, *question = service_of("redis")["healthcheck"]["test"]
            assert (kind, program) == ("CMD", "redis-cli")
            with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200)) as client:
                assert client.execute_command(*question)
                assert client.config_get("appendfsync")["appendfsync"] == "always"
        finally:
            process.kill()
            process.wait()
            kept.close()


def test_the_channel_leads_to_the_server(settings_of):
    assert settings_of("channel").upstream == f"server:{settings_of('server').grpc_port}"


def test_devices_see_one_object_from_four_sides_through_the_channel(settings_of):
    devices = [settings_of(name) for name in DEVICES]
    assert {device.to for device in devices} == {f"channel:{settings_of('channel').grpc_port}"}
    assert [device.device_id for device in devices] == DEVICES
    assert [device.view for device in devices] == [1, 2, 3, 4]
    assert len({device.object_id for device in devices}) == 1
    assert {device.expected_views for device in devices} == {len(DEVICES)}


def test_a_photograph_of_that_name_is_carried_along(settings_of):
    from semlink.vision.photos import find_photos

    assert find_photos(settings_of("device-1").images)


class TestRun:
    """Each `up` has an id of its own: the server keeps the views of earlier ones for minutes."""

    @pytest.fixture
    def command(self, tmp_path):
        """The words of a service's command, with a folder of this machine as the volume."""

        def of(name: str) -> list[str]:
            service = service_of(name)
            (target,) = [mount["target"] for mount in service["volumes"] if mount["source"] == "run"]
            words = [*service.get("entrypoint", []), *(service["command"] if name == "run" else ["env"])]
            return [word.replace(target, str(tmp_path)) for word in words]

        return of

    def run_of_device(self, command) -> str:
        environment = subprocess.run(command("device-1"), capture_output=True, text=True, check=True, timeout=60)
        return dict(line.partition("=")[::2] for line in environment.stdout.splitlines())["SEMLINK_RUN"]

    def test_devices_take_the_id_that_was_made(self, command, tmp_path):
        subprocess.run(command("run"), env={"PATH": os.environ["PATH"]}, check=True, timeout=60)
        assert re.fullmatch(r"\d{8}T\d{6}", (tmp_path / "id").read_text().strip())
        assert self.run_of_device(command) == (tmp_path / "id").read_text().strip()

    def test_a_run_is_repeated_by_its_name(self, command):
        assert "SEMLINK_RUN" in service_of("run")["environment"]
        subprocess.run(
            command("run"), env={"PATH": os.environ["PATH"], "SEMLINK_RUN": "b7"}, check=True, timeout=60
        )
        assert self.run_of_device(command) == "b7"

    def test_a_device_by_itself_has_none(self, command):
        assert self.run_of_device(command) == ""


@pytest.mark.parametrize("name", ["server", STUDIO, *DEVICES])
def test_weights_are_mounted_where_they_are_looked_for(name, settings_of):
    mounts = {mount["target"]: mount for mount in service_of(name)["volumes"]}
    weights = mounts[str(settings_of(name).weights)]
    assert (weights["type"], weights["read_only"]) == ("bind", True)
    assert (ROOT / weights["source"]).is_dir()
    assert weights["bind"] == {"create_host_path": False}
    caches = [
        arguments.partition("=")[2] for kind, arguments in instructions_of("vision") if "HF_HOME" in arguments
    ]
    assert mounts[caches[0]]["source"] in COMPOSE["volumes"]
    assert "read_only" not in mounts[caches[0]]


@pytest.mark.parametrize("name", ["redis", "run", STUDIO, *SERVICES])
def test_a_service_can_do_no_more_than_it_needs(name):
    service = service_of(name)
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert service["pids_limit"]
    # Those that serve come back by themselves; a device has an end.
    assert service.get("restart") == ("unless-stopped" if name in ["redis", STUDIO, *LISTENERS] else None)


@pytest.mark.parametrize("target", ["emulator", "vision"])
class TestImage:
    def test_runs_as_nobody_special(self, target):
        users = [arguments for instruction, arguments in instructions_of(target) if instruction == "USER"]
        assert users
        assert users[-1].partition(":")[0] not in {"root", "0"}

    def test_holds_an_environment_and_no_tools(self, target):
        instructions = instructions_of(target)
        assert not [a for kind, a in instructions if kind == "RUN" and re.search(r"\b(pip|apt|apt-get|gcc)\b", a)]
        ((stage, source, destination),) = [
            re.fullmatch(r"--from=(\S+) (\S+) (\S+)", arguments).groups()
            for instruction, arguments in instructions
            if instruction == "COPY"
        ]
        # A virtual environment only works where it was made.
        assert source == destination
        assert ("RUN", f"python -m venv {source}") in instructions_of(stage)
        paths = [a for kind, a in [*instructions, *instructions_of(stage)] if kind == "ENV" and "PATH=" in a]
        assert len(paths) == 2
        assert all(f"PATH={source}/bin:$PATH" in path for path in paths)


class TestInstallation:
    def test_the_images_hold_what_the_docs_say(self):
        page = (ROOT / "docs" / "containers.md").read_text()
        fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
        built = [step for stage in STAGES for step in pip_steps("\n".join(a for _, a in STAGES[stage][1]))]
        as_one = {step.replace(" --no-deps", "") for step in built if "requirements.txt" not in step}
        assert as_one == set(pip_steps(fenced))

    @pytest.mark.parametrize(
        ("stage", "extras"), [("build-emulator", "access tracing"), ("build-vision", "vision redis tracing")]
    )
    def test_dependencies_are_installed_before_the_source_is_there(self, stage, extras):
        instructions = [f"{kind} {arguments}" for kind, arguments in instructions_of(stage)]
        source = instructions.index("COPY . .")
        assert instructions[:source].count("COPY pyproject.toml deploy/requirements.py ./") == 1
        before, after = (pip_steps("\n".join(some)) for some in (instructions[:source], instructions[source:]))
        torch = ['pip install --index-url "$TORCH_INDEX_URL" torch torchvision'] if "vision" in extras else []
        assert before == [*torch, "pip install -r requirements.txt"]
        assert f"RUN python requirements.py {extras} >requirements.txt" in instructions[:source]
        assert after == [f"pip install --no-deps '.[{extras.replace(' ', ',')}]'"]

    @pytest.mark.parametrize("extras", [("access", "tracing"), ("vision", "redis", "tracing"), ("ray",)])
    def test_requirements_are_those_of_the_package_with_its_extras(self, extras):
        """As pip finds them; an extra may name others, whose requirements are then its own."""
        printed = subprocess.run(
            [sys.executable, "deploy/requirements.py", *extras],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        ).stdout.splitlines()  # fmt: skip
        declared = [Requirement(each) for each in metadata.requires("semlink")]

        def wanted(names: frozenset[str]) -> set[tuple[str, object]]:
            found = [
                each
                for each in declared
                if each.marker is None or any(each.marker.evaluate({"extra": name}) for name in names)
            ]
            more = names.union(*(each.extras for each in found if each.name == "semlink"))
            if more != names:
                return wanted(more)
            return {(each.name, each.specifier) for each in found if each.name != "semlink"}

        assert {(Requirement(each).name, Requirement(each).specifier) for each in printed} == wanted(
            frozenset(extras)
        )

    def test_what_is_installed_is_not_ignored(self):
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        assert "*" in lines
        kept = {line[1:] for line in lines if line.startswith("!")}
        packages = {"semlink", "device", "channel_emulator", "server", "studio", "cli", "experiments"}
        assert kept == {"pyproject.toml", "deploy/requirements.py", "README.md", "LICENSE"} | packages
        assert all((ROOT / name).exists() for name in kept)

    def test_what_the_studio_reads_is_in_the_package(self):
        from studio.curves import RESULTS
        from studio.page_files import FOLDER

        packaged = {
            path
            for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
            for pattern in patterns
            for path in (ROOT / package.replace(".", "/")).glob(pattern)
        }
        assert {RESULTS, *(path for path in FOLDER.rglob("*") if path.is_file())} <= packaged
