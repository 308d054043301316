"""Settings of the studio: where the page is served, and what it starts or attaches to."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from semlink.service.settings import CallSettings, HttpSettings, Names, Port


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
        "without it, one is started",
    )
    api_key_file: Path | None = Field(
        None, description="file with the API key to show to a server and an emulator that run already"
    )
    images: Names = Field(
        ["chelsea"],
        description="one photo, to be seen four ways, or several, one for each camera: files, folders, or names "
        "of scikit-image's photographs (chelsea, coffee, ...)",
    )
    weights: Path | None = Field(None, description="folder with NAME.safetensors, looked into first")
    out: Path = Field(Path("runs/studio"), description="folder of the logs of what is started")

    def calling(self) -> dict[str, Any]:
        """What those who call a server or an emulator that run already are started with."""
        names = ("tls_server_authority", "tls_certificate", "tls_key", "api_key_file")
        return {name: str(value) for name in names if (value := getattr(self, name)) is not None}
