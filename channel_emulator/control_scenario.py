"""Scenario over HTTP: sent as JSON or CSV, played, paused, looped and sought."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders

from channel_emulator.impairments import optional
from channel_emulator.live import LiveImpairments, Playback
from channel_emulator.per_device import PatchError
from channel_emulator.scenario import MIN_STEP_SECONDS, Scenario, Seconds, Step, scenario_of_csv
from semlink.service.problems import problem_responses

PATH = "/v1/scenario"
CSV = "text/csv"
_CSV_EXAMPLE = "at,device,preset,type,ber\n0,,clear,,\n10,,,bsc,0.01\n20,,,,0.05\n20,camera-2,lossy,,\n30,,,,\n"
_NONE = {"not_found": "there is no scenario"}


class ScenarioState(BaseModel):
    """A scenario, and where it is."""

    playing: bool
    loop: bool = Field(description="it starts anew at its end")
    position: float = Field(description="seconds from its start", examples=[12.5])
    seconds: float = Field(description="from its start to its last step", examples=[30])
    step: int = Field(description="number of the step in force, from 1; 0: none yet", examples=[2])
    steps: list[Step]


class ScenarioPatch(BaseModel, extra="forbid", json_schema_extra={"examples": [{"position": 10}]}):
    """What is to change of where the scenario is; what is not named stays."""

    playing: bool = optional("false: pause; true: go on, at the end from the start")
    position: Seconds = optional("seek: seconds from the start, no later than the last step")
    loop: bool = optional("start anew at the end")


class _JsonOrCsv(APIRoute):
    """A route that takes its body as CSV, too, and hands it on as the JSON that it stands for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_either(request: Request) -> Response:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() == CSV:
                request = await _as_json(request)
            return await handle(request)

        return handle_either


async def _as_json(request: Request) -> Request:
    try:
        document = scenario_of_csv((await request.body()).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise HTTPException(422, "the CSV is not in UTF-8") from None
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    scope = {**request.scope, "headers": list(request.scope["headers"])}
    MutableHeaders(scope=scope)["content-type"] = "application/json"
    converted = Request(scope, request.receive)
    converted._body = json.dumps(document).encode()  # as Starlette caches a body that was read
    return converted


def scenario_routes(live: LiveImpairments, refused_bodies: Mapping[str, str]) -> APIRouter:
    """The routes of the scenario."""
    router = APIRouter(tags=["scenario"], route_class=_JsonOrCsv)

    @router.get(
        PATH,
        summary="The scenario, and where it is",
        response_model_exclude_unset=True,
        responses=problem_responses(**_NONE),
    )
    async def read() -> ScenarioState:
        return _state(_loaded(live))

    @router.put(
        PATH,
        summary="Play a scenario",
        response_model_exclude_unset=True,
        responses=problem_responses(**refused_bodies),
        openapi_extra={"requestBody": {"content": {CSV: {"schema": {"type": "string"}, "example": _CSV_EXAMPLE}}}},
    )
    async def load(scenario: Scenario) -> ScenarioState:
        """Plays a timeline of settings from its start, in place of the one before, if there was one.

        It starts from the settings as they are. A step changes what it names, as PATCH does, until another step
        changes it. As CSV it is a table: `at`, `device`, `type`, `preset`, and parameters by their names; an empty
        cell changes nothing. The whole timeline is checked before any of it is taken. A request that changes
        settings pauses the scenario.
        """
        try:
            live.load(scenario)
        except PatchError as error:
            raise HTTPException(422, str(error)) from None
        return _state(_loaded(live))

    @router.patch(
        PATH,
        summary="Play, pause, seek, loop",
        response_model_exclude_unset=True,
        responses=problem_responses(**_NONE, **refused_bodies),
    )
    async def change(patch: ScenarioPatch) -> ScenarioState:
        """Changes what is named, and nothing else."""
        playback, wanted = _loaded(live), patch.model_fields_set
        end = playback.timeline.seconds
        if "position" in wanted and patch.position > end:
            raise HTTPException(
                422, f"position must be at most {end:g}, the scenario's last step, not {patch.position:g}"
            )
        if "loop" in wanted and patch.loop and end < MIN_STEP_SECONDS:
            raise HTTPException(422, "a scenario whose last step is before 10 ms can't loop")
        if "loop" in wanted:
            live.set_loop(loop=patch.loop)
        if "playing" in wanted and not patch.playing:
            live.pause()
        if "position" in wanted:
            live.seek(patch.position)
        if "playing" in wanted and patch.playing:
            live.play()
        return _state(_loaded(live))

    @router.delete(PATH, summary="Remove the scenario", status_code=204, responses=problem_responses(**_NONE))
    async def remove() -> None:
        """The settings stay as they are."""
        _loaded(live)
        live.remove()

    return router


def _loaded(live: LiveImpairments) -> Playback:
    if (playback := live.playback) is None:
        raise HTTPException(404, f"there is no scenario: PUT one to {PATH}, or start with --scenario")
    return playback


def _state(playback: Playback) -> ScenarioState:
    timeline = playback.timeline
    return ScenarioState(
        playing=playback.playing,
        loop=playback.loop,
        position=round(playback.position, 3),
        seconds=timeline.seconds,
        step=playback.step,
        steps=timeline.scenario.steps,
    )
