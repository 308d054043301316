"""Views of four devices on their way to two servers that share a Redis, while everything between them fails."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import pytest
from processes import Running, running, wait_until
from prometheus_client.parser import text_string_to_metric_families
from redis_server import PERSISTENT, RedisServer, running_redis
from relay import Relay

from device.uplink import Uplink
from semlink.v1.link_pb2 import ClassifyRequest, ClassifyResponse, Vote

OBJECTS, DEVICES = 12, 4
CALL_SECONDS, RETRY_SECONDS = 5.0, 240.0


class World:
    """Devices 0 and 2 speak to one emulator, 1 and 3 to the other; a relay passes both on to the two servers."""

    def __init__(self, stack: ExitStack, redis: RedisServer, environment: dict[str, str]) -> None:
        self.redis, self._stack, self._environment = redis, stack, environment
        self.servers = [self._server(), self._server()]
        self.relay = stack.enter_context(Relay([server.grpc_address for server in self.servers]))
        self.emulators = [self._emulator(), self._emulator()]
        self.killed: list[Running] = []
        wait_until(lambda: all(process.is_ready for process in self.alive))

    @property
    def alive(self) -> list[Running]:
        return [*self.servers, *self.emulators]

    def kill(self, process: Running) -> None:
        """As kill -9 does."""
        process.kill()
        self.killed.append(process)

    def restart_server(self, number: int) -> None:
        """Starts another at the place of one that was killed."""
        self.servers[number] = self._server(self.servers[number].ports)

    def restart_emulator(self, number: int) -> None:
        self.emulators[number] = self._emulator(self.emulators[number].ports)

    def _server(self, ports: tuple[int, int] = (0, 0)) -> Running:
        command = "-m", "server", "--redis", self.redis.url
        return self._stack.enter_context(running(*command, ports=ports, **self._environment))

    def _emulator(self, ports: tuple[int, int] = (0, 0)) -> Running:
        command = "-m", "channel_emulator", "--upstream", self.relay.address
        return self._stack.enter_context(running(*command, ports=ports))


@pytest.fixture(scope="module")
def world(offline) -> Iterator[World]:
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis("tests/faults/test_kills.py", *PERSISTENT))
        yield World(stack, redis, offline)


class Traffic:
    """The views of all objects: what is sent, and what was answered."""

    def __init__(self, world: World, frames: list[bytes], name: str) -> None:
        self.world = world
        self.objects = [f"{name} {number}" for number in range(OBJECTS)]
        self.views = [self._views(device, frames) for device in range(DEVICES)]
        self.answers: dict[tuple[str, str], ClassifyResponse] = {}

    def _views(self, device: int, frames: list[bytes]) -> list[ClassifyRequest]:
        return [
            ClassifyRequest(
                frame=frames[(number + device) % len(frames)],
                object_id=object_id,
                device_id=f"camera-{device}",
                frame_id=number,
                expected_views=DEVICES,
            )
            for number, object_id in enumerate(self.objects)
        ]

    async def run(self, meanwhile: Callable[["Traffic"], Awaitable[None]]) -> None:
        """Sends all views, while something happens, which must be over before they are answered."""
        trouble = asyncio.create_task(meanwhile(self))
        devices = asyncio.gather(*(self._send(device) for device in range(DEVICES)))
        await asyncio.wait({trouble, devices}, return_when=asyncio.FIRST_COMPLETED)
        if trouble.done():
            trouble.result()
        assert not devices.done(), "all was answered before it was over"
        await devices

    async def after(self, answers: int) -> None:
        """Returns once so many views have been answered."""
        while len(self.answers) < answers:
            await asyncio.sleep(0.005)

    async def _send(self, device: int) -> None:
        async with self.uplink(device) as uplink:
            for view in self.views[device]:
                self.answers[view.object_id, view.device_id] = await uplink.classify(view)

    def uplink(self, device: int) -> Uplink:
        emulator = self.world.emulators[device % len(self.world.emulators)]
        return Uplink(emulator.grpc_address, CALL_SECONDS, RETRY_SECONDS, asyncio.Event())

    async def check(self) -> None:
        """All views are counted, each once, in one vote, of which everybody is told the same."""
        assert len(self.answers) == OBJECTS * DEVICES
        wait_until(lambda: all(server.is_ready for server in self.world.servers))
        for device in range(DEVICES):
            async with self.uplink(device + 1) as uplink:  # by the other emulator
                for view in self.views[device]:
                    again = await uplink.classify(view)
                    assert again.repeated
                    assert again.predictions == self.answers[view.object_id, view.device_id].predictions
                    assert again.vote == (await uplink.wait_vote(view.object_id, 0)).vote
                    assert again.vote == self.told_over_http(view.object_id)
                    assert again.vote.fused.name
                    again.vote.ClearField("fused")
                    assert again.vote == self.counted(view.object_id)
        self.check_redis()

    def told_over_http(self, object_id: str) -> Vote:
        standings = [server.http.get(f"/v1/votes/{object_id}").json() for server in self.world.servers]
        assert standings[0] == standings[1]
        return Vote(**standings[0]["vote"])

    def counted(self, object_id: str) -> Vote:
        """The vote as it follows from the answers."""
        firsts = [answer.predictions[0] for (about, _), answer in self.answers.items() if about == object_id]
        counts, sure = Counter(first.label for first in firsts), Counter()
        for first in firsts:
            sure[first.label] += first.confidence
        label = max(counts, key=lambda label: (counts[label], sure[label]))
        name = next(first.name for first in firsts if first.label == label)
        return Vote(label=label, name=name, votes=counts[label], views=DEVICES)

    def check_redis(self) -> None:
        client = self.world.redis.client
        keys = client.keys("semlink:2:object:*")
        assert len(keys) == client.zcard("semlink:2:objects") == OBJECTS
        for key in keys:
            kinds = Counter(field.partition(b":")[0] for field in client.hkeys(key))
            assert (kinds[b"counted"], kinds[b"answer"], kinds[b"vote"]) == (DEVICES, DEVICES, 1)

    def votes_logged(self) -> Counter[str]:
        """How often each object's vote was taken, as far as those who took it lived to say so."""
        logs = "".join(process.logs for process in (*self.world.servers, *self.world.killed))
        lines = [json.loads(line) for line in logs.splitlines() if line.endswith("}")]
        votes = [line["object_id"] for line in lines if line["event"] == "vote"]
        return Counter(object_id for object_id in votes if object_id in self.objects)


@pytest.fixture
def traffic(world, frames, request) -> Traffic:
    world.redis.client.flushall()
    return Traffic(world, frames, request.node.name)


def votes_taken(server: Running) -> float:
    families = text_string_to_metric_families(server.http.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "semlink_server_votes_total")


def test_connections_cut_delayed_throttled_and_dead(world, traffic):
    async def trouble(traffic: Traffic) -> None:
        relay = world.relay
        for answers in (2, 6, 8):
            await traffic.after(answers)
            relay.cut_after = 20_000  # in the middle of a frame
        for relay.fault, answers in (("delay", 14), ("throttle", 20)):
            await traffic.after(answers)
        relay.fault = "black hole"
        while not relay.swallowed:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.5)
        relay.fault = ""
        relay.cut()
        await traffic.after(26)
        relay.cut()

    before = sum(map(votes_taken, world.servers))
    asyncio.run(traffic.run(trouble))
    asyncio.run(traffic.check())
    assert world.relay.cuts >= 2
    assert sum(map(votes_taken, world.servers)) == before + OBJECTS
    assert traffic.votes_logged() == Counter(traffic.objects)
    assert world.killed == []


def test_processes_killed(world, traffic):
    async def trouble(traffic: Traffic) -> None:
        await traffic.after(4)
        await asyncio.to_thread(world.kill, world.emulators[0])
        await asyncio.to_thread(world.restart_emulator, 0)
        await traffic.after(12)
        world.redis.kill()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(world.redis.start)
        await traffic.after(20)
        await asyncio.to_thread(world.kill, world.servers[0])

    others = world.servers[1], world.emulators[1]
    asyncio.run(traffic.run(trouble))
    world.restart_server(0)
    asyncio.run(traffic.check())
    assert max(traffic.votes_logged().values()) == 1
    assert (world.servers[1], world.emulators[1]) == others
    assert all(process.process.poll() is None for process in world.alive)
    assert not any("Traceback" in process.logs for process in (*world.alive, *world.killed))
