"""Settings (pydantic-settings): flags, then SEMLINK_* environment variables, then defaults; secrets from files."""

import importlib.util
import inspect
import os
import stat
import sys
from argparse import Action, ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import structlog
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, NoDecode, SettingsConfigDict, SettingsError

from semlink.parameters import Only, flag_of
from semlink.service.applicability import Applicable
from semlink.service.origin import checked_origin
from semlink.service.validation import mistake_text

log = structlog.get_logger(__name__)


class StartupError(Exception):
    """The process can't start; the message says why and what to do."""


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:50051")
    return address


def _url(address: str) -> str:
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be a URL, such as http://127.0.0.1:4317")
    return address


def _or_standard(endpoint: str | None) -> str | None:
    """The endpoint, or else that of OpenTelemetry's own variables."""
    variables = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return endpoint or next((os.environ[name] for name in variables if os.environ.get(name)), None)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing too
        return False


def _between_commas(value: Any) -> Any:
    """Values of a list: between commas, as in the environment, or one by one, as of a flag."""
    texts = [value] if isinstance(value, str) else value
    return [part for text in texts for each in text.split(",") if (part := each.strip())]


Names = Annotated[list[str], NoDecode, BeforeValidator(_between_commas)]
"""Several names: separated by spaces or commas as a flag, by commas in the environment."""
Origins = Annotated[
    list[Annotated[str, AfterValidator(checked_origin)]], NoDecode, BeforeValidator(_between_commas)
]
Port = Annotated[int, Field(ge=0, le=65535)]
Address = Annotated[str, AfterValidator(_host_and_port)]


class ProcessSettings(Applicable, BaseSettings):
    """Settings of every process; each field is a flag and an environment variable."""

    model_config = SettingsConfigDict(
        env_prefix="SEMLINK_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
        extra="forbid",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log shown")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="json: one JSON line each; console: for people; auto: console on a terminal"
    )
    otlp_endpoint: Annotated[Annotated[str, AfterValidator(_url)] | None, BeforeValidator(_or_standard)] = Field(
        None,
        validate_default=True,
        description="send traces to the OpenTelemetry collector at this URL, over gRPC, such as "
        "http://127.0.0.1:4317; the standard OTEL_EXPORTER_OTLP_ENDPOINT does the same; without, there are none",
    )

    @model_validator(mode="after")
    def _can_trace(self) -> Self:
        if self.otlp_endpoint and not _is_installed("opentelemetry.exporter.otlp.proto.grpc"):
            raise ValueError(
                "--otlp-endpoint (or SEMLINK_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT) needs OpenTelemetry: "
                "pip install 'semlink[tracing]', or leave it out"
            )
        return self


class IdentitySettings(ProcessSettings):
    """Certificate of a process that listens or calls over TLS."""

    tls_certificate: Path | None = Field(
        None,
        description="PEM file with this process's certificate, and those between it and its authority; with "
        "--tls-key. Who listens then takes TLS only; who calls shows it where it is asked for",
    )
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key, no passphrase")


class HttpSettings(IdentitySettings):
    """Settings of a process that listens for HTTP."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all, as in a container")
    http_port: Port
    allowed_hosts: Names = Field(
        [],
        description="names under which HTTP requests may call this process (their field Host), besides localhost, "
        "IP addresses, --host and the machine's own name; others are refused with 421, as a browser that was led "
        "here sends them; *: any name",
    )
    cors_origins: Origins = Field(
        [],
        description="origins of other sites whose pages may call this process from a browser (CORS), such as "
        "https://app.example; without, none may",
    )
    max_http_connections: int = Field(
        256,
        ge=1,
        description="HTTP connections at once; one more closes one that waits for its client, or else has its "
        "requests answered with 503",
    )
    tls_client_authority: Path | None = Field(
        None,
        description="PEM file with certificates of who signs callers' certificates: only callers that show such a "
        "one are served then (mutual TLS)",
    )
    api_keys_file: Path | None = Field(
        None,
        description="file with a `NAME KEY` a line: only callers that show such a key are served then; or the "
        "same, between commas, in SEMLINK_API_KEYS",
    )
    rate_limit: float | None = Field(
        None,
        gt=0,
        description="calls and requests a second of one key, or of one address without a key; more are refused at "
        "once, with RESOURCE_EXHAUSTED or 429 and when to try again",
    )
    rate_burst: Annotated[int, Only("rate_limit")] = Field(
        20, ge=1, description="calls at once that --rate-limit lets pass after a pause"
    )


class ListenSettings(HttpSettings):
    """Settings of a process that listens for HTTP and gRPC."""

    grpc_port: Port
    max_concurrent_calls: int = Field(
        128, ge=1, description="gRPC calls served at once; more are refused with RESOURCE_EXHAUSTED"
    )
    max_waiting_calls: int = Field(
        128,
        ge=1,
        description="calls that may wait for a vote at once, over gRPC and a server's HTTP together, besides "
        "--max-concurrent-calls",
    )
    max_grpc_connections: int = Field(
        1024, ge=1, description="gRPC connections, one of each device; more are hung up on at once"
    )


class CallSettings(IdentitySettings):
    """Settings of a process that calls another."""

    tls_server_authority: Path | None = Field(
        None,
        description="PEM file with certificates of who signs the called process's certificate: calls are then "
        "made over TLS, to nobody else",
    )


S = TypeVar("S", bound=BaseSettings)


def read_settings(
    settings_class: type[S], program: str, arguments: Sequence[str] | None = None, *, command: str | None = None
) -> S:
    """Reads flags (by default this process's own) and environment; prints every mistake and exits with 2.

    A field that is a list is a flag that takes several values: `--images a b`.

    Args:
        settings_class: declares the flags, environment variables and defaults.
        program: whose settings they are, in messages.
        arguments: the command line, without the program.
        command: how the program is started, in messages; by default by its script or as `python -m PROGRAM`,
            whichever started this process.
    """
    started = Path(sys.argv[0]).name
    command = command or (started if started.startswith("semlink-") else f"python -m {program}")
    settings_class.__doc__ = inspect.cleandoc(settings_class.__doc__ or "")
    flags = CliSettingsSource[Any](settings_class, cli_prog_name=command, add_argument_method=_add_argument)
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        settings = CliApp.run(settings_class, cli_args=given, cli_settings_source=flags)
        found = {name.replace("-", "_") for name in flags.env_vars}
        problems: list[str] = list(settings.without_effect(found)) if isinstance(settings, Applicable) else []
        if not problems:
            return settings
    except ValidationError as error:
        problems = [_problem(settings_class, dict(item)) for item in error.errors()]
    except SettingsError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"{program}: {problem}", file=sys.stderr)
    print(f"{program}: {command} --help explains every setting", file=sys.stderr)
    raise SystemExit(2)


def _add_argument(parser: ArgumentParser, *flags: str, **options: Any) -> Action:
    """Declares a flag to argparse; that of a list takes one value or more, as often as it is given."""
    if options.get("action") == "append":
        of_one = options["metavar"].removeprefix("list[").removesuffix("]")
        options |= {"action": "extend", "nargs": "+", "metavar": of_one}
    return parser.add_argument(*flags, **options)


def _problem(settings_class: type[BaseSettings], item: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in item["loc"][:1])
    if not name:
        return mistake_text(item)
    flag, variable = flag_of(name), f"SEMLINK_{name.upper()}"
    if item["type"] == "missing":
        return f"{flag} (or {variable}) is required: {settings_class.model_fields[name].description}"
    return f"{flag} (or {variable}): {mistake_text(item)}, not {item['input']!r}"


class SecretsInEnvironment(BaseSettings):
    """SEMLINK_API_KEYS and so on. Not flags: every user of a machine can list those of its processes.

    Attributes:
        api_keys: API keys that are accepted.
        api_key: API key for the calls of this process.
        header_key: a device's key for header tags.
    """

    model_config = SettingsConfigDict(env_prefix="SEMLINK_", env_ignore_empty=True)

    api_keys: SecretStr | None = None
    api_key: SecretStr | None = None
    header_key: SecretStr | None = None


def read_secret(file: Path, flag: str) -> str:
    """Reads a file of secrets that `flag` names; warns if other users may read it too.

    Raises:
        StartupError: it can't be read, or is not text.
    """
    try:
        text = file.read_text(encoding="utf-8")
        mode = file.stat().st_mode
    except OSError as error:
        raise StartupError(f"cannot read {file} ({flag}): {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupError(f"{file} ({flag}) is not text in UTF-8") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("others on this machine may read the file of keys", file=str(file), advice=f"chmod 600 {file}")
    return text
