"""TLS 1.2 or newer from PEM files, mutual TLS, gRPC channels; hints where one end of a connection takes no TLS."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import grpc

from semlink.service.settings import CallSettings, HttpSettings, IdentitySettings, StartupError

_CERTIFICATE, _PRIVATE_KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"
PROBE_SECONDS = 2.0
"""Longest that `tls_hint` takes."""
_PLAIN_HTTP = b"this port takes HTTPS, and this was plain HTTP: write https:// instead of http://\n"
_ANSWER_TO_PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_PLAIN_HTTP), _PLAIN_HTTP)
)
_CHANNEL_OPTIONS = [
    # A server that comes back is found within about a second, also under a new address.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # Finds a host that vanished while calls wait for it. Servers close connections that ping more often than every
    # 30 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A bandwidth ping delays the keepalive ping, by default for up to a minute: longer than a call waits.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # The other end is near: an HTTP proxy in the environment is not for it.
    ("grpc.enable_http_proxy", 0),
]


class _Identity(NamedTuple):
    certificate: bytes
    key: bytes


def server_credentials(settings: HttpSettings) -> grpc.ServerCredentials | None:
    """TLS of a gRPC server, mutual if there is an authority for clients; None without a certificate.

    Raises:
        StartupError: a file can't be read, holds no PEM of its kind, or needs another one beside it.
    """
    identity, clients = _identity(settings), _clients(settings)
    if identity is None:
        return None
    return grpc.ssl_server_credentials(
        [(identity.key, identity.certificate)], root_certificates=clients, require_client_auth=clients is not None
    )


def server_context(settings: HttpSettings) -> ssl.SSLContext | None:
    """TLS of an HTTP server, likewise.

    Raises:
        StartupError: as of `server_credentials`.
    """
    identity, clients = _identity(settings), _clients(settings)
    if identity is None:
        return None
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_identity(context, settings)
    if clients is not None:
        context.load_verify_locations(cadata=clients.decode("ascii", "replace"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def channel_credentials(settings: CallSettings) -> grpc.ChannelCredentials | None:
    """TLS of a gRPC client; None without an authority for the server's certificate.

    Raises:
        StartupError: a file can't be read, holds no PEM of its kind, or needs another one beside it.
    """
    identity = _identity(settings)
    if settings.tls_server_authority is None:
        return None
    servers = _authority(settings.tls_server_authority, "--tls-server-authority")
    key, certificate = (identity.key, identity.certificate) if identity else (None, None)
    return grpc.ssl_channel_credentials(servers, key, certificate)


def client_context(settings: CallSettings) -> ssl.SSLContext | None:
    """TLS of an HTTP client, likewise.

    Raises:
        StartupError: as of `channel_credentials`.
    """
    identity = _identity(settings)
    if settings.tls_server_authority is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    servers = _authority(settings.tls_server_authority, "--tls-server-authority")
    context.load_verify_locations(cadata=servers.decode("ascii", "replace"))
    if identity is not None:
        _load_identity(context, settings)
    return context


def connect(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """gRPC channel to HOST:PORT; connects when first used and again when lost. Without credentials: no TLS."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)


async def tls_hint(target: str, details: str, over_tls: bool) -> str:
    """What may help where one end of a failed connection takes TLS and the other does not; else nothing.

    Args:
        target: HOST:PORT that was called.
        details: of the UNAVAILABLE that gRPC answered with.
        over_tls: whether the call was made over TLS.
    """
    if over_tls and "WRONG_VERSION_NUMBER" in details:
        return f": {target} takes no TLS; leave out --tls-server-authority, or start it with --tls-certificate"
    if over_tls and "CERTIFICATE_VERIFY_FAILED" in details:
        return f": the certificate of {target} is signed by none in the file of --tls-server-authority"
    if not over_tls and "Socket closed" in details and await _takes_tls(target):
        return f": {target} takes TLS only; name who signed its certificate with --tls-server-authority"
    return ""


async def _takes_tls(target: str) -> bool:
    host, _, port = target.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # only asks: nothing is sent, nobody is trusted
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


class _ServerObject(ssl.SSLObject):
    """TLS of one connection, which answers plain HTTP in the clear."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST":
                raise
            self.outgoing.write(_ANSWER_TO_PLAIN_HTTP)
            raise ssl.SSLWantReadError from None  # sends it, and waits for the client to hang up


class _ServerContext(ssl.SSLContext):
    sslobject_class = _ServerObject

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *rest: Any, **named: Any
    ) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *rest, **named)
        assert isinstance(made, _ServerObject)
        made.outgoing = outgoing
        return made


def _clients(settings: HttpSettings) -> bytes | None:
    if settings.tls_client_authority is None:
        return None
    if settings.tls_certificate is None:
        raise StartupError("--tls-client-authority needs --tls-certificate and --tls-key: there is no TLS without")
    return _authority(settings.tls_client_authority, "--tls-client-authority")


def _identity(settings: IdentitySettings) -> _Identity | None:
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        given, missing = ("key", "certificate") if settings.tls_certificate is None else ("certificate", "key")
        raise StartupError(f"--tls-{given} needs --tls-{missing} beside it")
    certificate = _read(settings.tls_certificate, "--tls-certificate", _CERTIFICATE, "certificate")
    key = _read(settings.tls_key, "--tls-key", _PRIVATE_KEY, "private key")
    _load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)
    return _Identity(certificate, key)


def _load_identity(context: ssl.SSLContext, settings: IdentitySettings) -> None:
    assert settings.tls_certificate is not None
    assert settings.tls_key is not None

    def locked() -> NoReturn:
        raise StartupError(f"{settings.tls_key} (--tls-key) is locked with a passphrase: give a key without one")

    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=locked)
    except ssl.SSLError as error:
        pair = f"{settings.tls_certificate} (--tls-certificate) and {settings.tls_key} (--tls-key)"
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartupError(f"{pair} don't belong together: the key is another certificate's") from None
        raise StartupError(f"{pair} can't be used: {error.reason or error}") from None


def _authority(path: Path, flag: str) -> bytes:
    data = _read(path, flag, _CERTIFICATE, "certificate")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise StartupError(f"{path} ({flag}) can't be used: {error.reason or error}") from None
    return data


def _read(path: Path, flag: str, holds: bytes, what: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read {path} ({flag}): {error.strerror}") from None
    if holds not in data:
        raise StartupError(f"{path} ({flag}) holds no {what} in PEM form")
    return data
