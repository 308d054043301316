"""Settings of the server: flags and environment variables."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from semlink.parameters import Only
from semlink.service.settings import ListenSettings, Port
from semlink.vision.engines import EngineName
from semlink.vision.weights import SERVER_MODEL


class ServerSettings(ListenSettings):
    """Classifies the frames that devices send, over gRPC and REST, and takes the vote of several views.

    Every setting is also read from the environment: --grpc-port from SEMLINK_GRPC_PORT, and so on.
    """

    grpc_port: Port = Field(50051, description="port of the link service (gRPC); 0: any free one, printed")
    http_port: Port = Field(
        8000, description="port of the REST API, /metrics and health; 0: any free one, printed"
    )
    model: str = Field(SERVER_MODEL, description="timm name of the vision transformer")
    weights: Path | None = Field(None, description="folder with NAME.safetensors, looked into first")
    engine: EngineName = Field("openvino", description="what runs the model: openvino, the faster one, or torch")
    threads: int = Field(0, ge=0, description="CPU threads of the model; 0: the engine's choice")
    max_batch: int = Field(
        8,
        ge=1,
        le=256,
        description="images in one batch of the model, at most; no batch waits until it is full",
    )
    queue_size: int = Field(
        64,
        ge=1,
        description="requests that may wait for the model; more are refused at once, with RESOURCE_EXHAUSTED or "
        "429 and when to try again",
    )
    answer_within_seconds: float = Field(
        0,
        ge=0,
        description="a request that can't be expected to be answered within so long, by the model's measured "
        "speed, is refused at once, in the same way; 0: 0.85 of the time of a full batch and three single images, "
        "or that of a full batch and one more if it is longer",
    )
    request_timeout_seconds: float = Field(
        30,
        gt=0,
        description="longest that a request over HTTP waits for its answer, or a call over gRPC without a "
        "deadline; then it leaves the queue",
    )
    vote_after_seconds: float = Field(
        0,
        ge=0,
        le=86_400,
        description="decide on an object so long after its first counted view, with the views that are in; 0: "
        "only when all expected views are in",
    )
    quorum: Annotated[int, Only("vote_after_seconds")] = Field(
        1,
        ge=1,
        le=64,
        description="with --vote-after-seconds, never vote on fewer views than this: where fewer are in, the vote "
        "is taken as soon as so many are",
    )
    calibration: Path | None = Field(
        None,
        description="file of `semlink calibrate`: what opinions and looks are worth, and when to ask for more; "
        "empty: that of the models that come with the package",
    )
    target_accuracy_loss: float | None = Field(
        None,
        description="ask for as few pictures as keep the loss of accuracy to so many points, compared with "
        "undamaged pictures of all views; 1 where there is no --budget-bits either",
    )
    budget_bits: float | None = Field(
        None, gt=0, description="ask for as many pictures as keep a view to so many bits, on average"
    )
    wish_seconds: float = Field(
        5,
        gt=0,
        le=3600,
        description="once a view that was asked for more has not given it for so long, take the vote without it",
    )
    redis: str = Field(
        "",
        description="keep views and votes in this Redis, redis://HOST:PORT/DATABASE, which several servers with "
        "the same settings may share; empty: in memory",
    )
    object_ttl_seconds: float = Field(
        600, ge=60, description="how long an object's views and vote are kept after its last view"
    )
    max_objects: int = Field(
        10_000,
        ge=1,
        description="objects kept at once, in all servers that share a Redis; beyond, the oldest is forgotten",
    )
    header_keys_file: Path | None = Field(
        None,
        description="file with a line DEVICE_ID KEY for each device, the key in hexadecimal; then only frames "
        "are taken whose header's tag is by their device's key (of a device: --header-key-file)",
    )
    max_held_bytes: int = Field(
        256 << 20,
        ge=1 << 20,
        description="bytes of HTTP bodies held at once, over all requests; more are refused at once, with 429",
    )
    cluster: Literal["none", "ray"] = Field(
        "none", description="ray: run replicas of the server on this machine, behind Ray Serve (docs/cluster.md)"
    )
    replicas: Annotated[int, Only("cluster", ("ray",))] = Field(
        1, ge=1, description="with --cluster ray: how many replicas; they share --redis"
    )
    max_replicas: Annotated[int | None, Only("cluster", ("ray",))] = Field(
        None,
        ge=1,
        description="with --cluster ray: replicas beyond --replicas are started while calls wait, up to so many",
    )

    @model_validator(mode="after")
    def _votes_are_taken_in_time(self) -> Self:
        if self.vote_after_seconds + self.wish_seconds >= self.object_ttl_seconds:
            raise ValueError(
                f"--vote-after-seconds, {self.vote_after_seconds:g}, and --wish-seconds, {self.wish_seconds:g}, "
                f"together must be less than --object-ttl-seconds, {self.object_ttl_seconds:g}: what has been "
                "forgotten has no vote"
            )
        return self

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target_accuracy_loss is not None and self.budget_bits is not None:
            raise ValueError("--target-accuracy-loss and --budget-bits exclude each other: set one of them")
        return self
