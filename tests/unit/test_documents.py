"""The documentation page asks no other server; pages of other origins may call where they are allowed (CORS)."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from semlink.service.admission import Admission, ApiKeys, refusal_counter
from semlink.service.documents import DOCUMENT_PATHS, install_documents
from semlink.service.http_server import install_admission
from semlink.service.settings import ListenSettings, Port, read_settings

KEY = "0123456789abcdef"
APP = "https://app.example"


class Settings(ListenSettings):
    """A process that listens."""

    grpc_port: Port = 0
    http_port: Port = 0


def client(*arguments: str) -> TestClient:
    admission = Admission.of(read_settings(Settings, "x", arguments), refusal_counter("test", CollectorRegistry()))
    return client_of(admission)


def client_of(admission: Admission) -> TestClient:
    app = FastAPI(title="A process", docs_url=None, redoc_url=None)
    install_admission(app, admission)
    install_documents(app)

    @app.get("/things")
    async def things() -> list[int]:
        return []

    return TestClient(app, base_url="http://localhost:8000")


class TestDocuments:
    def test_the_page_and_its_files_need_no_key(self):
        public = client_of(Admission(ApiKeys({"camera": KEY})))
        assert [public.get(path).status_code for path in DOCUMENT_PATHS] == [200] * len(DOCUMENT_PATHS)
        assert public.get("/things").status_code == 401
        assert public.get("/docs/files/../files/redoc.standalone.js").status_code == 401

    def test_the_page_names_no_other_host_and_its_policy_allows_none(self):
        answer = client().get("/docs")
        assert answer.headers["content-type"].startswith("text/html")
        assert not re.findall(r"(?:https?:)?//[\w.-]+", answer.text)
        policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        for sources in policy.values():
            assert all(each.startswith("'") or each == "data:" for each in sources.split())
        assert "'unsafe-inline'" not in policy["script-src"]

    def test_what_the_page_loads_is_there(self):
        answers = client()
        page = answers.get("/docs").text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page) + re.findall(r"url: '([^']+)'", page)
        assert {f"/{path}" for path in loaded} == set(DOCUMENT_PATHS) - {"/docs"}
        script = answers.get("/docs/files/swagger-ui-bundle.js")
        assert "javascript" in script.headers["content-type"]


class TestCors:
    @pytest.fixture
    def allowed(self) -> TestClient:
        return client("--cors-origins", APP, "https://other.example:8443")

    def test_is_off_by_default(self):
        preflight = {"Origin": APP, "Access-Control-Request-Method": "GET"}
        answer = client().options("/things", headers=preflight)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert client().get("/things", headers={"Origin": APP}).status_code == 403

    def test_pages_of_allowed_origins_may_call(self, allowed):
        answer = allowed.get("/things", headers={"Origin": APP})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == APP
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert allowed.get("/things", headers={"Origin": "https://foe.example"}).status_code == 403

    def test_browsers_ask_first_without_a_key(self):
        settings = read_settings(Settings, "x", ["--cors-origins", APP])
        counter = refusal_counter("test", CollectorRegistry())
        admission = Admission.of(settings, counter)
        admission._keys = ApiKeys({"camera": KEY})
        wanted = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
        answers = client_of(admission)
        answer = answers.options("/things", headers={"Origin": APP} | wanted)
        assert answer.status_code == 200
        assert "PUT" in answer.headers["access-control-allow-methods"]
        refused = answers.get("/things", headers={"Origin": APP})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == APP  # so that the page can read why

    @pytest.mark.parametrize("origin", ["*", "app.example", "https://app.example/", "https://app.example:443"])
    def test_what_is_no_origin_is_refused(self, origin, capsys):
        with pytest.raises(SystemExit):
            client("--cors-origins", origin)
        assert "--cors-origins (or SEMLINK_CORS_ORIGINS)" in capsys.readouterr().err

    def test_from_the_environment(self, monkeypatch):
        monkeypatch.setenv("SEMLINK_CORS_ORIGINS", f"{APP},http://localhost:3000")
        assert read_settings(Settings, "x", []).cors_origins == [APP, "http://localhost:3000"]
