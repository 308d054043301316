"""What the server can be told."""

from pathlib import Path

from pydantic import Field

from semlink.runtime.settings import ListenSettings, Port
from semlink.weights import SERVER_MODEL


class ServerSettings(ListenSettings):
    """Classifies the frames that devices send, over gRPC and REST, and takes the vote of several views.

    Every setting is also read from the environment: --grpc-port from SEMLINK_GRPC_PORT, and so on.
    """

    grpc_port: Port = Field(50051, description="port of the link service (gRPC); 0: any free one, printed")
    http_port: Port = Field(8000, description="port of the REST API and health; 0: any free one, printed")
    model: str = Field(SERVER_MODEL, description="timm name of the vision transformer")
    weights: Path | None = Field(None, description="folder with NAME.safetensors, looked into first")
    threads: int = Field(0, ge=0, description="CPU threads of the model; 0: torch's choice")
    object_ttl_seconds: float = Field(
        600, ge=60, description="how long an object's views and vote are kept after its last view"
    )
    max_objects: int = Field(10_000, ge=1, description="objects kept at once; beyond, the oldest is forgotten")
