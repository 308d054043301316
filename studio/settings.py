"""Settings of the studio: where the page is served, and what it starts or attaches to."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field

from semlink.parameters import Only
from semlink.service.settings import CallSettings, HttpSettings, Names, Port, ProcessSettings


def _two_addresses(value: str) -> str:
    parts = [part.rpartition(":") for part in value.split(",")]
    if len(parts) != 2 or not all(
        host and port.isdecimal() and 1 <= int(port) <= 65535 for host, _, port in parts
    ):
        raise ValueError(
            "must be HOST:PORT,HOST:PORT, of gRPC and of HTTP, such as 127.0.0.1:50051,127.0.0.1:8000"
        )
    return value


Addresses = Annotated[str, AfterValidator(_two_addresses)]
_OF_THE_PAGE = {
    f"SEMLINK_{name.upper()}"
    for name in {*HttpSettings.model_fields, *CallSettings.model_fields, "api_keys"}
    - ProcessSettings.model_fields.keys()
}
"""Variables of the environment that say how the page is served, and whom it calls."""
ATTACHED = Only("server", otherwise=Only("channel"))


class StudioSettings(HttpSettings, CallSettings):
    """Serves a page on which four cameras, a channel and a server run for real, and every knob answers at once.

    Every setting is also read from the environment: --http-port from SEMLINK_HTTP_PORT, and so on.
    """

    http_port: Port = Field(8002, description="port of the page; 0: any free one, printed")
    server: Addresses | None = Field(
        None,
        description="HOST:PORT,HOST:PORT of a server that runs, its gRPC and its HTTP port; without it, one is "
        "started",
    )
    channel: Addresses | None = Field(
        None,
        description="HOST:PORT,HOST:PORT of a channel emulator that runs, its gRPC port and its control plane; "
        "without it, one is started. The server behind it is watched where --server names it",
    )
    api_key_file: Annotated[Path | None, ATTACHED] = Field(
        None, description="file with the API key to show to a server and an emulator that run already"
    )
    images: Names = Field(
        ["chelsea"],
        description="one photo, to be seen four ways, or several, one for each camera: files, folders, or names "
        "of scikit-image's photographs (chelsea, coffee, ...)",
    )
    weights: Path | None = Field(None, description="folder with NAME.safetensors, looked into first")
    out: Path = Field(Path("runs/studio"), description="folder of the logs of what is started")

    def without_effect(
        self, given: Collection[str], beside: Mapping[str, Only] = MappingProxyType({})
    ) -> Iterator[str]:
        """See `Applicable`; also an authority where nobody is attached to."""
        yield from super().without_effect(given, {"tls_server_authority": ATTACHED, **beside})

    def of_emulator(self) -> dict[str, str]:
        """TLS settings of an emulator that is started before a server that runs already."""
        return self._given("tls_server_authority", "tls_certificate", "tls_key") if self._calls_over_tls else {}

    def of_camera(self) -> dict[str, str]:
        """Settings of a camera that its calls go out with; an emulator passes the key on."""
        tls = self._given("tls_server_authority", "tls_certificate", "tls_key") if self.has_tls_channel else {}
        return tls | (self._given("api_key_file") if self.server or self.channel else {})

    @property
    def has_tls_channel(self) -> bool:
        """Whether the emulator takes TLS: one that is started here listens with the certificate that it shows."""
        return self._calls_over_tls and (self.channel is not None or self.tls_certificate is not None)

    @property
    def _calls_over_tls(self) -> bool:
        return self.tls_server_authority is not None and bool(self.server or self.channel)

    def _given(self, *names: str) -> dict[str, str]:
        return {name: str(value) for name in names if (value := getattr(self, name)) is not None}

    def environment(self, knobs: Iterable[str]) -> dict[str, str]:
        """Environment of what is started: without how the page is served, whom it calls, and what `knobs` set."""
        dropped = _OF_THE_PAGE | {f"SEMLINK_{name.upper()}" for name in knobs}
        kept = {name: value for name, value in os.environ.items() if name.upper() not in dropped}
        return kept | ({"SEMLINK_WEIGHTS": str(self.weights)} if self.weights else {})
