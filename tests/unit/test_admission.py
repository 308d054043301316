"""Who is admitted: keys, rates, bodies, certificates; without a process."""

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
import trustme
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from channel_emulator.settings import Settings
from semlink.service import admission
from semlink.service.admission import Admission, Busy, ConcurrencyLimit, NotAdmitted, RateLimit, TooManyCalls
from semlink.service.http_server import BodyLimits
from semlink.service.keys import ApiKeys, own_key, read_keys
from semlink.service.problems import install_problems
from semlink.service.settings import StartupError
from semlink.service.tls import channel_credentials, server_context, server_credentials

KEYS = {"alice": "correct-horse-battery", "bob": "staple-0123456789=="}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("SEMLINK_API_KEYS", "SEMLINK_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "keys"
    file.write_text(text)
    file.chmod(mode)
    return file


class TestKeys:
    @pytest.mark.parametrize(
        ("authorization", "name"),
        [
            ("Bearer correct-horse-battery", "alice"),
            ("bearer  staple-0123456789== ", "bob"),
            ("Bearer correct-horse-batter", None),
            ("Bearer correct-horse-battery2", None),
            ("Basic correct-horse-battery", None),
            ("correct-horse-battery", None),
            ("Bearer ", None),
            ("", None),
            ("Bearer \udcff", None),
        ],
    )
    def test_whose(self, authorization, name):
        assert ApiKeys(KEYS).name_of(authorization) == name

    def test_no_key_is_kept(self):
        assert all(key not in repr(vars(ApiKeys(KEYS))) for key in KEYS.values())

    def test_file_and_environment(self, tmp_path, monkeypatch):
        file = written(tmp_path, "# of the site\n\nalice correct-horse-battery  # since May\n")
        monkeypatch.setenv("SEMLINK_API_KEYS", "bob staple-0123456789==, carol another-key-of-hers")
        keys = read_keys(file)
        assert keys.name_of("Bearer correct-horse-battery") == "alice"
        assert keys.name_of("Bearer another-key-of-hers") == "carol"
        assert read_keys(None).name_of("Bearer correct-horse-battery") is None
        monkeypatch.delenv("SEMLINK_API_KEYS")
        assert read_keys(None) is None

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("alice 0123456789abcde", "line 1: the key has 15 characters; at least 16"),
            ("\nalice", "line 2: must be `NAME KEY`, not 1 words"),
            ("alice 0123456789abcdef x", "not 3 words"),
            ("alice 0123456789abcdef\nalice 0123456789abcdeg", "line 2: 'alice' has a key already"),
            ("alice 0123456789abcdef\nbob 0123456789abcdef", "line 2: 'bob' has the key of another name"),
            ("alice 0123456789äbcdef", "letters, digits"),
            ("# nobody", "hold no key"),
        ],
    )
    def test_unfit_keys_are_explained_and_not_shown(self, tmp_path, text, reason):
        with pytest.raises(StartupError) as caught:
            read_keys(written(tmp_path, text))
        assert reason in str(caught.value)
        assert "0123456789" not in str(caught.value)

    def test_of_ones_own(self, tmp_path, monkeypatch):
        file = written(tmp_path, "correct-horse-battery\n")
        assert own_key(file).get_secret_value() == "correct-horse-battery"
        assert "correct" not in repr(own_key(file))
        assert own_key(None) is None
        monkeypatch.setenv("SEMLINK_API_KEY", "too-short")
        with pytest.raises(StartupError, match="not both"):
            own_key(file)
        with pytest.raises(StartupError, match="9 characters"):
            own_key(None)
        with pytest.raises(StartupError, match="cannot read"):
            read_keys(tmp_path / "none")

    @pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
    def test_warns_of_a_file_that_others_may_read(self, tmp_path, mode, warned, capsys):
        read_keys(written(tmp_path, "alice correct-horse-battery", mode))
        assert ("chmod 600" in capsys.readouterr().out) == warned


class TestRate:
    @given(
        rate=st.floats(0.1, 100),
        burst=st.integers(1, 20),
        pauses=st.lists(st.floats(0, 5), max_size=60),
    )
    def test_is_a_token_bucket(self, rate, burst, pauses):
        """Beside the bucket of the textbook: `burst` tokens, refilled at `rate`."""
        now, tokens = 0.0, float(burst)
        limit = RateLimit(rate, burst, clock=lambda: now)
        for pause in pauses:
            now += pause
            tokens = min(burst, tokens + pause * rate)
            wait = limit.wait("someone")
            if abs(tokens - 1) < 1e-6:  # either may be right
                return
            assert (wait == 0) == (tokens > 1)
            if wait:
                assert wait == pytest.approx((1 - tokens) / rate, abs=1e-6)
            else:
                tokens -= 1

    def test_callers_are_apart_and_their_number_is_bounded(self, monkeypatch):
        monkeypatch.setattr(admission, "MAX_CALLERS", 3)
        limit = RateLimit(1, 1, clock=lambda: 0.0)
        assert [limit.wait(caller) for caller in "abca"] == [0, 0, 0, 1]
        assert limit.wait("d") == 0
        assert len(limit._due) == 3
        assert limit.wait("a") == 0  # forgotten, the one that called longest ago
        assert limit.wait("d") == 1


class TestAdmission:
    def test_a_key_counts_wherever_it_comes_from(self):
        admission = Admission(ApiKeys(KEYS), rate=0.001, burst=2)
        alice = "Bearer correct-horse-battery"
        assert [admission.admit(alice, address) for address in ("10.0.0.1", "10.0.0.2")] == ["alice"] * 2
        with pytest.raises(TooManyCalls, match="'alice'"):
            admission.admit(alice, "10.0.0.3")
        assert admission.admit("Bearer staple-0123456789==", "10.0.0.3") == "bob"

    def test_trying_keys_counts_by_address(self):
        admission = Admission(ApiKeys(KEYS), rate=0.001, burst=2)
        for given_ in (None, "Bearer guess"):
            with pytest.raises(NotAdmitted) as caught:
                admission.admit(given_, "10.0.0.1")
            assert not isinstance(caught.value, TooManyCalls)
            assert "guess" not in str(caught.value)
        with pytest.raises(TooManyCalls):
            admission.admit("Bearer guess", "10.0.0.1")

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("10.0.0.1", "10.0.0.2", False),
            ("2001:db8::1", "2001:db8::ffff:2", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("fe80::1%eth0", "fe80::2%eth1", True),
            ("", "", True),
        ],
    )
    def test_an_address_of_version_6_is_its_network(self, one, other, same):
        admission = Admission(rate=0.001)
        assert admission.admit(None, one) is None
        if same:
            with pytest.raises(TooManyCalls, match="one address"):
                admission.admit(None, other)
        else:
            assert admission.admit(None, other) is None

    def test_of_several_keys_none_has_more_than_half_of_the_places(self):
        admission, limit = Admission(ApiKeys(KEYS)), ConcurrencyLimit(4, "are served")
        with contextlib.ExitStack() as places:
            admission.admit("Bearer correct-horse-battery", "10.0.0.1")
            for _ in range(2):
                places.enter_context(limit)
            with pytest.raises(Busy, match="'alice' has so many"):
                limit.__enter__()
            admission.admit("Bearer staple-0123456789==", "10.0.0.1")
            with limit:
                assert limit.current == 3
            admission.admit("Bearer correct-horse-battery", "10.0.0.1")
        alone = Admission(ApiKeys({"alice": KEYS["alice"]}))
        alone.admit("Bearer correct-horse-battery", "10.0.0.1")
        with contextlib.ExitStack() as places:
            for _ in range(4):
                places.enter_context(limit)
            with pytest.raises(Busy, match="4 calls are served at once"):
                limit.__enter__()
        assert limit.current == 0

    def test_of_many_refusals_few_are_logged(self, capsys):
        admission = Admission(ApiKeys(KEYS))
        for reason in (NotAdmitted("no"), TooManyCalls("often", 1.0)):
            for _ in range(1000):
                admission.count("http", reason, "10.0.0.1")
        assert 2 <= capsys.readouterr().out.count("not admitted") <= 6

    def test_without_keys_and_rates_everybody_is(self):
        assert all(Admission().admit(None, "10.0.0.1") is None for _ in range(1000))


async def test_all_bodies_together_are_bounded():
    app, entered, go_on = FastAPI(), asyncio.Event(), asyncio.Event()
    install_problems(app)
    app.add_middleware(BodyLimits, max_bytes=lambda headers: 100, max_held_bytes=150)

    @app.post("/")
    async def hold(request: Request) -> int:
        size = len(await request.body())
        entered.set()
        await go_on.wait()
        return size

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        first = asyncio.create_task(client.post("/", content=bytes(100)))
        await entered.wait()
        refused = await client.post("/", content=bytes(60))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        second = asyncio.create_task(client.post("/", content=bytes(50)))
        await asyncio.sleep(0)
        assert (await client.post("/", content=bytes(101))).status_code == 413
        go_on.set()
        assert [(await each).json() for each in (first, second)] == [100, 50]
        for _ in range(3):  # all has been let go of
            assert (await client.post("/", content=bytes(100))).json() == 100


@pytest.fixture(scope="module")
def pem(tmp_path_factory) -> Path:
    """authority.pem; certificate.pem, key.pem by it; other.pem, a key of none of them; text.pem, broken.pem."""
    folder, authority = tmp_path_factory.mktemp("pem"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    mine, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    mine.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    (folder / "text.pem").write_text("no certificate")
    (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return folder


class TestCertificates:
    def settings(self, pem: Path, **files: str) -> Settings:
        return Settings(upstream="there:1", **{name: pem / file for name, file in files.items()})

    def test_fit(self, pem):
        own = {"tls_certificate": "certificate.pem", "tls_key": "key.pem"}
        settings = self.settings(pem, **own)
        assert server_credentials(settings) is not None
        assert server_context(settings).verify_mode is ssl.CERT_NONE
        assert server_context(settings).minimum_version is ssl.TLSVersion.TLSv1_2
        assert channel_credentials(settings) is None  # a listener's own certificate need not mean that it calls so
        both = self.settings(
            pem, **own, tls_client_authority="authority.pem", tls_server_authority="authority.pem"
        )
        assert server_context(both).verify_mode is ssl.CERT_REQUIRED
        assert channel_credentials(both) is not None
        assert server_credentials(self.settings(pem)) is server_context(self.settings(pem)) is None

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            ({"tls_certificate": "certificate.pem"}, "--tls-certificate needs --tls-key"),
            ({"tls_key": "key.pem"}, "--tls-key needs --tls-certificate"),
            ({"tls_client_authority": "authority.pem"}, "--tls-client-authority needs --tls-certificate"),
            ({"tls_certificate": "none.pem", "tls_key": "key.pem"}, "none.pem (--tls-certificate): No such file"),
            ({"tls_certificate": "text.pem", "tls_key": "key.pem"}, "holds no certificate in PEM form"),
            ({"tls_certificate": "certificate.pem", "tls_key": "text.pem"}, "holds no private key in PEM form"),
            ({"tls_certificate": "certificate.pem", "tls_key": "other.pem"}, "don't belong together"),
            ({"tls_certificate": "broken.pem", "tls_key": "key.pem"}, "can't be used"),
            ({"tls_server_authority": "text.pem"}, "holds no certificate"),
            ({"tls_server_authority": "broken.pem"}, "(--tls-server-authority) can't be used"),
        ],
    )
    def test_unfit(self, pem, files, reason):
        use = channel_credentials if "tls_server_authority" in files else server_credentials
        with pytest.raises(StartupError) as caught:
            use(self.settings(pem, **files))
        assert reason in str(caught.value)

    def test_a_locked_key_asks_nobody_for_its_passphrase(self, pem):
        from cryptography.hazmat.primitives import serialization as form

        key = form.load_pem_private_key((pem / "key.pem").read_bytes(), None)
        locked = key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"open sesame")
        )
        (pem / "locked.pem").write_bytes(locked)
        with pytest.raises(StartupError, match="locked with a passphrase"):
            server_credentials(self.settings(pem, tls_certificate="certificate.pem", tls_key="locked.pem"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the recipe is openssl's")
def test_the_recipe_of_the_documentation(tmp_path):
    """Its certificates make a connection, its key is a key."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    recipe = next(block for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if "openssl req" in block)
    subprocess.run(["bash", "-euc", recipe], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    own = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.key"}
    settings = Settings(upstream="there:1", **own, tls_client_authority=tmp_path / "authority.pem")
    caller = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    caller.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python does from 3.13
    caller.load_cert_chain(tmp_path / "camera-1.pem", tmp_path / "camera-1.key")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server_context(settings).wrap_bio(there, back, server_side=True),
        caller.wrap_bio(back, there, server_hostname="server"),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    key = own_key(tmp_path / "camera-1.apikey").get_secret_value()
    assert read_keys(tmp_path / "api.keys").name_of(f"Bearer {key}") == "site/camera-1"
