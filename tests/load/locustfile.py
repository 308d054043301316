"""Users of a server's REST API and devices on its link service, in an open model; every answer is checked.

locust -f tests/load/locustfile.py --headless --host http://127.0.0.1:8000 --link 127.0.0.1:50051 \
    --rate 5 --run-time 60s

Requests arrive at random at --rate, however long answers take, and times count from when a request was due. What
was refused (429, RESOURCE_EXHAUSTED) is counted apart. A wrong answer or vote, or another error, makes the exit
code 1. It measures with one process; --users and --spawn-rate change nothing.
"""

import json
import logging
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import gevent
import grpc
import grpc.experimental.gevent
import httpx
import numpy as np
from arrivals import poisson
from expected import Ballot, Disagreement, Expected, Objects, Top, votes
from gevent.pool import Pool
from locust import FastHttpUser, User, events, task
from report import write_report
from tally import ANSWERED, REFUSED, Limits, Tally, broken
from workload import VIEWS, View, views

from semlink.v1 import link_pb2, link_pb2_grpc

grpc.experimental.gevent.init_gevent()

CALL_SECONDS = 60.0
LATE_SECONDS = 90.0
"""How long after its end a run waits for the last answers."""
FRAME_TYPE = "application/vnd.semlink.frame"
REST_FRAME, REST_PICTURE, GRPC_FRAME = "REST frame", "REST picture", "gRPC frame"
STOPPING = ("stopping", "stopped", "cleanup")

log = logging.getLogger(__name__)


class Load:
    """What all users of one run share."""

    def __init__(self, options, requests: list[View], answers: Expected) -> None:
        self.options, self.views, self.expected = options, requests, answers
        self.tally, self.objects = Tally(), Objects(answers.votes)
        self.photos = [requests[start : start + VIEWS] for start in range(0, len(requests), VIEWS)]
        self.run_id = uuid.uuid4().hex[:8]
        self.began = time.monotonic()
        self.users = 0

    def random(self) -> np.random.Generator:
        """Another one for each user."""
        self.users += 1
        return np.random.default_rng([self.options.seed, self.users])


load: Load


@events.init_command_line_parser.add_listener
def add_options(parser) -> None:
    group = parser.add_argument_group("Semlink")

    def option(flag: str, text: str, **how) -> None:
        group.add_argument(flag, help=text, **how)

    share, limit = {"type": float, "metavar": "SHARE"}, {"type": float, "metavar": "MS", "default": float("inf")}
    option(
        "--link",
        "link services that devices send to, in turns: the server, a channel emulator before it that does no "
        "harm; without, all requests are made over REST",
        nargs="+",
        default=[],
        metavar="HOST:PORT",
    )
    option("--rate", "arrivals a second, over all users (default 2)", type=float, default=2.0)
    option(
        "--rest-share",
        "of arrivals, those over REST, where there are devices too (default 0.5)",
        default=0.5,
        **share,
    )
    option("--picture-share", "of those over REST, JPEGs instead of frames (default 0.2)", default=0.2, **share)
    option(
        "--workload",
        "frames and pictures; made by the device's model where there are none",
        type=Path,
        default=Path("runs/load/workload"),
        metavar="FOLDER",
    )
    option("--seed", "of arrivals and of what is sent (default 0)", type=int, default=0)
    option("--summary", "write percentiles by status there, and as HTML beside it", type=Path, metavar="FILE.json")
    option("--max-refused", "fail where more are refused (default 1: never)", default=1.0, **share)
    option("--max-p99-ms", "fail where the 99th percentile of answered requests is above", **limit)
    option("--max-refusal-ms", "fail where the 99th percentile of refused requests is above", **limit)


@events.init.add_listener
def prepare(environment, **_) -> None:
    """Has everything answered once, unloaded: what every later answer is checked against."""
    global load
    options = environment.parsed_options
    if not options.host:
        sys.exit("locust: --host http://HOST:PORT of the server's REST API is required")
    if not 0 < options.rate < 1e6:
        sys.exit("locust: --rate must be above 0")
    requests = views(options.workload)
    try:
        load = Load(options, requests, ask_for_expected(options, requests))
    except (Disagreement, httpx.HTTPError, grpc.RpcError) as error:
        sys.exit(f"locust: no load is put on {options.host}, which does not answer rightly without: {error}")
    environment.stop_timeout = LATE_SECONDS
    options.num_users = 2  # one of each; how much they send is the rate's business


def ask_for_expected(options, requests: list[View]) -> Expected:
    """The first answers, one request after the other."""

    with httpx.Client(base_url=options.host, timeout=CALL_SECONDS, trust_env=False) as http:

        def rest(body: bytes, media_type: str) -> Top:
            answer = http.post("/v1/classify", content=body, headers={"Content-Type": media_type})
            answer.raise_for_status()
            return Top.of_json(answer.json())

        frames = {view: rest(view.frame, FRAME_TYPE) for view in requests}
        pictures = {view: rest(view.jpeg, "image/jpeg") for view in requests if view.viewpoint == 1}
    for target in options.link:
        with grpc.insecure_channel(target) as channel:
            link = link_pb2_grpc.LinkServiceStub(channel)
            for view in requests[:VIEWS]:
                message = link_pb2.ClassifyRequest(frame=view.frame)
                answer = Top.of_message(link.Classify(message, timeout=CALL_SECONDS))
                if problem := frames[view].problem(answer):
                    raise Disagreement(f"{target} answers {view.photo} with {problem} as over REST")
    return Expected(frames, pictures, votes(frames))


class Arriving(User):
    """Sends its share of the arrivals, each on time and in a greenlet of its own."""

    abstract = True
    fixed_count = 1

    def share(self) -> float:
        """Of all arrivals."""
        raise NotImplementedError

    def request(self, number: int, random: np.random.Generator) -> Callable[[float], None]:
        """The next request, which is told when it is due."""
        raise NotImplementedError

    @task
    def arrive(self) -> None:
        """Until the run ends; then waits for the last answers."""
        random, pool, began = load.random(), Pool(), time.perf_counter()
        rate = load.options.rate * self.share()
        for number, at in enumerate(poisson(rate, random) if rate else [float("inf")]):
            due = began + at
            while (wait := due - time.perf_counter()) > 0 and self.environment.runner.state not in STOPPING:
                gevent.sleep(min(wait, 0.2))
            if self.environment.runner.state in STOPPING:
                break
            load.tally.late.append(1e3 * (time.perf_counter() - due))
            pool.spawn(self.request(number, random), due)
        pool.join(LATE_SECONDS)


def noted(kind: str, status: str, due: float, problem: str | None) -> dict:
    """Counts one request that is over; returns what Locust's own report wants to know of it."""
    milliseconds = 1e3 * (time.perf_counter() - due)
    load.tally.note(kind, status, milliseconds, problem)
    if status not in ANSWERED | REFUSED:
        problem = problem or status
    return {
        "request_type": kind.partition(" ")[0],
        "name": f"{kind}: {status}",
        "response_time": milliseconds,
        "exception": AssertionError(problem) if problem else None,
    }


class RestUser(Arriving, FastHttpUser):
    """Posts frames that stand alone, and pictures."""

    concurrency = 10_000  # as many as are under way: the server says when it is too many
    network_timeout = connection_timeout = CALL_SECONDS

    def share(self) -> float:
        return load.options.rest_share if load.options.link else 1.0

    def request(self, number: int, random: np.random.Generator) -> Callable[[float], None]:
        if random.random() < load.options.picture_share:
            view, top = list(load.expected.pictures.items())[random.integers(len(load.expected.pictures))]
            return lambda due: self.post(REST_PICTURE, view.jpeg, "image/jpeg", top, due)
        view = load.views[random.integers(len(load.views))]
        return lambda due: self.post(REST_FRAME, view.frame, FRAME_TYPE, load.expected.frames[view], due)

    def post(self, kind: str, body: bytes, media_type: str, top: Top, due: float) -> None:
        headers = {"Content-Type": media_type}
        with self.client.post("/v1/classify", data=body, headers=headers, catch_response=True) as response:
            status = str(response.status_code or "no answer")
            problem = top.problem(Top.of_json(response.json())) if status == "200" else None
            told = noted(kind, status, due, problem)
            # Locust's own time counts from when the request was sent.
            response.request_meta |= told
            if told["exception"]:
                response.failure(told["exception"])
            else:
                response.success()


class Devices(Arriving):
    """Four cameras an object; each arrival is the next one's view, and the vote comes with the last."""

    def __init__(self, environment) -> None:
        super().__init__(environment)
        self.links = [link_pb2_grpc.LinkServiceStub(grpc.insecure_channel(each)) for each in load.options.link]

    def share(self) -> float:
        return 1 - load.options.rest_share

    def request(self, number: int, random: np.random.Generator) -> Callable[[float], None]:
        round_number, device = divmod(number, VIEWS)
        view = load.photos[round_number % len(load.photos)][device]
        link = self.links[(round_number + device) % len(self.links)]
        message = link_pb2.ClassifyRequest(
            frame=view.frame,
            object_id=f"load-{load.run_id}-{round_number}",
            device_id=f"device-{device + 1}",
            frame_id=round_number,
            expected_views=VIEWS,
        )
        return lambda due: self.classify(link, message, view, due)

    def classify(self, link, message: link_pb2.ClassifyRequest, view: View, due: float) -> None:
        answer, problem, vote = None, None, None
        try:
            answer = link.Classify(message, timeout=CALL_SECONDS)
            status = "OK"
            problem = load.expected.frames[view].problem(Top.of_message(answer))
            vote = Ballot.of_message(answer.vote) if answer.HasField("vote") else None
        except grpc.RpcError as error:
            status = error.code().name
        vote_problem = load.objects.end(
            message.object_id, view.photo, vote, answered=answer is not None, views=VIEWS
        )
        self.environment.events.request.fire(
            **noted(GRPC_FRAME, status, due, problem or vote_problem),
            response_length=answer.ByteSize() if answer else 0,
            context={},
        )


@events.test_start.add_listener
def begin(**_) -> None:
    load.began = time.monotonic()


@events.quitting.add_listener
def judge(environment, **_) -> None:
    """Sets the exit code, and writes the summary."""
    options = load.options
    seconds = min(time.monotonic() - load.began, options.run_time or float("inf"))
    limits = Limits(options.max_refused, options.max_p99_ms, options.max_refusal_ms)
    summary = load.tally.summary(seconds) | {"complete_objects": load.objects.complete}
    summary["broken"] = broken(summary, limits)
    for problem in summary["broken"]:
        log.error("not within the limits: %s", problem)
    environment.process_exit_code = 1 if summary["broken"] else 0
    if options.summary:
        options.summary.parent.mkdir(parents=True, exist_ok=True)
        options.summary.write_text(json.dumps(summary, indent=2) + "\n")
        write_report(options.summary.with_suffix(".html"), {"load": summary})
