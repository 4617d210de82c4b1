#!/usr/bin/env python3
"""Clients that do one thing after the other, at any node, beside a naive model of what each must get.

    python3 tests/cluster/orderly.py --bin target/debug/nightjar [--alone] [--seed N] [--steps N] [--kill]

Everything waits for its acknowledgement before the next thing is done. So each message is due to each subscriber exactly once
and in the order of publication, whatever node they are at; after a takeover or a kill what was acknowledged just before may
come again, with DUP and never with QoS 2. Wills and what a SUBSCRIBE finds retained come once, at any place.
"""

import argparse
import collections
import pathlib
import random
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import run  # noqa: E402
from run import Failed, check, until, wire  # noqa: E402

import sn_client  # noqa: E402
from results import Results  # noqa: E402

TOPICS = [f"t/{n}" for n in range(4)]
WILLS = "will/"
SHARED = "s/0"
EXPIRY = 600
# How long something due may take, in seconds: far above what a loaded machine needs.
DUE = 20.0
# Nothing more comes for so long at the end.
QUIET = 1.0


class Peer(run.Client):
    """One connection that answers each packet where it stands; `held` are packet ids of QoS 2 whose PUBREL is to come."""

    def __init__(self, port, cid, held, **options):
        self.held = held
        super().__init__(port, cid, rc=None, **options)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self, packet):
        """True if it was nobody's answer."""
        if packet.kind == wire.PUBREL:
            self.held.discard(packet.pid)
            self.send(wire.ack(wire.PUBCOMP, packet.pid))
            return True
        if packet.kind != wire.PUBLISH:
            return False
        if packet.qos == 2:
            if packet.pid not in self.held:
                self.held.add(packet.pid)
                self.stash.append(packet)
            self.send(wire.ack(wire.PUBREC, packet.pid))
            return True
        self._keep(packet)
        return True

    def answer(self, kind):
        while True:
            packet = self.packet(DUE)
            check(packet is not None, f"closed instead of {wire.NAMES[kind]}")
            if packet.kind == kind:
                return packet
            check(self.handle(packet), f"{packet} instead of {wire.NAMES[kind]}")

    def take(self, timeout):
        """The next message, acknowledged; None if there is none for so long."""
        end = time.monotonic() + timeout
        while not self.stash and (left := end - time.monotonic()) > 0:
            try:
                packet = self.packet(left)
            except TimeoutError:
                return None
            check(packet is not None, "closed")
            check(self.handle(packet), f"{packet} instead of a message")
        return self.stash.pop(0) if self.stash else None

    def publish2(self, topic, payload, retain):
        self.pid += 1
        self.send(wire.publish(topic, payload, 2, self.pid, self.v, retain=retain))
        code = self.answer(wire.PUBREC).rc
        self.send(wire.ack(wire.PUBREL, self.pid))
        self.answer(wire.PUBCOMP)
        return code

    def leave(self):
        """DISCONNECT; what comes before the end is not looked at."""
        self.send(wire.disconnect())
        while self.packet(DUE) is not None:
            pass
        self.sock.close()


Got = collections.namedtuple("Got", "topic payload qos retain dup")
Due = collections.namedtuple("Due", "payload qos")


class Client:
    """What a client of either protocol must get."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.subs, self.due = {}, collections.deque()
        self.loose, self.seen = set(), set()
        # By topic: how often something retained may come, and must.
        self.may_find, self.must_find = collections.Counter(), collections.Counter()
        # What it got since its acknowledgements were surely kept, and what may come again.
        self.fresh, self.again = {}, {}

    def __repr__(self):
        return self.name

    def owe(self, payload, qos, loose):
        item = Due(payload, qos)
        if qos and loose:
            self.loose.add(item)
        elif qos:
            self.due.append(item)

    def note(self, got):
        item = Due(got.payload, got.qos)
        if got.retain:
            self.found(got)
            return
        if got.qos == 0:
            # Nothing says when it is routed; it may not come, but not twice.
            check(got.payload not in self.seen, f"{self} got twice: {got}")
            check(got.payload in self.world.payloads, f"{self} got {got}, which nobody sent")
            self.seen.add(got.payload)
            return
        if item.payload in self.world.group:
            self.world.group.discard(item.payload)
            self.fresh[item.payload] = got.qos
            return
        if self.due and self.due[0] == item:
            self.due.popleft()
            # What may come again comes before.
            self.again.clear()
        elif item in self.loose:
            self.loose.discard(item)
        elif self.again.pop(got.payload, 2) < 2:
            # Of the group another member may get it again, and to that one it is new.
            check(got.dup or item.payload.startswith(b"s"), f"{self} got again, without DUP: {got}")
        elif got.payload in self.world.maybe and got.payload not in self.seen:
            self.seen.add(got.payload)
        elif got.payload in self.world.group_again:
            self.world.group_again.discard(got.payload)
        else:
            raise Failed(f"{self} got {got} and not {self.wants()}")
        self.fresh[got.payload] = got.qos

    def found(self, got):
        """What is retained is read when there is room for it: it may be newer than what there was at the SUBSCRIBE."""
        if not self.may_find[got.topic] and self.again.pop((got.payload, "retained"), 2) < 2:
            check(got.dup, f"{self} got again, without DUP: {got}")
            self.fresh[(got.payload, "retained")] = got.qos
            return
        check(self.may_find[got.topic] > 0, f"{self} found {got} and not {self.wants()}")
        check(got.payload in self.world.kept[got.topic], f"{self} found {got}, which nobody retained")
        self.may_find[got.topic] -= 1
        must = self.must_find[got.topic] - bool(got.qos)
        self.must_find[got.topic] = min(max(0, must), self.may_find[got.topic])
        if got.qos:
            self.fresh[(got.payload, "retained")] = got.qos

    def wants(self):
        return f"{list(self.due)[:3]}, {list(self.loose)[:3]}, {dict(+self.must_find)}"

    def sure(self):
        """What it acknowledged so far is kept."""
        self.fresh.clear()

    def unsure(self):
        """What it acknowledged last may come again."""
        self.again.update(self.fresh)
        self.world.group_again.update(it for it in self.fresh if it[:1] == b"s")
        self.fresh.clear()

    def is_owed(self):
        return bool(self.due or self.loose or +self.must_find)

    def forget(self):
        self.subs.clear()
        self.due.clear()
        self.loose.clear()
        self.may_find.clear()
        self.must_find.clear()
        self.fresh.clear()
        self.again.clear()

    def subscribed(self, topic, qos):
        self.subs[topic] = qos
        kept = self.world.retained.get(topic)
        if kept is not None:
            payload, published = kept
            self.may_find[topic] += 1
            if min(qos, published):
                self.must_find[topic] += 1


class Mqtt(Client):
    """A client of MQTT 3.1.1 or 5.0, whose session stays or not."""

    def __init__(self, world, name, version, durable, member=False):
        super().__init__(world, name)
        self.version, self.durable, self.member = version, durable, member
        self.peer, self.node, self.will, self.held = None, None, None, set()
        # Is there a session, and does it outlive the connection?
        self.exists = self.stays = False
        self.last = None

    def connect(self, node, clean=False):
        clean = clean or not self.durable
        options = {"clean": clean, "v": self.version}
        if self.version == 5 and self.durable:
            options["properties"] = {"session_expiry": EXPIRY}
        self.will = self.world.payload() if random.random() < 0.5 else None
        if self.will:
            options["will"] = (WILLS + self.name, self.will, 1, False)
        old, was_connected = self.peer, self.peer is not None
        if clean:
            self.held.clear()
        if node is not self.last:
            # Else it may not know where the client is.
            self.world.probe(node)
        self.last = node
        end = time.monotonic() + DUE
        while True:
            peer = Peer(node.mqtt, self.name, self.held, **options)
            if peer.connack.rc == 0:
                break
            peer.drop()
            check(peer.connack.rc in (3, 0x88) and time.monotonic() < end, peer.connack)
            time.sleep(0.3)
        present = self.exists and not clean
        check(peer.connack.session_present == present, f"{self}: session present is not {present}")
        if was_connected:
            self.note_stash()
            self.unsure()
            old.sock.close()
        if clean:
            self.forget()
        # Of 3.1.1, a clean session ends with its connection.
        self.stays = self.durable and not (clean and self.version == 4)
        self.peer, self.node, self.exists = peer, node, self.stays

    def subscribe(self, topic, qos):
        self.peer.pid += 1
        filter_ = f"$share/g/{topic}" if topic == SHARED else topic
        self.peer.send(wire.subscribe(self.peer.pid, [(filter_, qos)], self.version))
        code = self.peer.answer(wire.SUBACK).rcs[0]
        check(code == qos, f"SUBACK {code}")
        if topic != SHARED:
            self.subscribed(topic, qos)

    def unsubscribe(self, topic):
        # What is queued stays and may still come.
        self.drain()
        self.peer.pid += 1
        self.peer.send(wire.unsubscribe(self.peer.pid, [topic], self.version))
        self.peer.answer(wire.UNSUBACK)
        self.subs.pop(topic, None)

    def publish(self, topic, payload, qos, retain):
        if qos == 2:
            code = self.peer.publish2(topic, payload, retain)
        else:
            code = self.peer.publish(topic, payload, qos, retain)
        check(code in (0, 0x10), f"PUBLISH: {code:#x}")

    def drain(self):
        end = time.monotonic() + DUE
        while self.is_owed():
            packet = self.peer.take(max(0.0, end - time.monotonic()))
            check(packet is not None, f"{self} waits in vain for {self.wants()}")
            self.note(packet)

    def note_stash(self):
        """What it acknowledged while it waited for something else."""
        for packet in self.peer.stash:
            self.note(packet)
        self.peer.stash.clear()

    def extra(self, seconds):
        while (packet := self.peer.take(seconds)) is not None:
            self.note(packet)

    def leave(self):
        self.note_stash()
        self.peer.leave()
        self.world.left.append((len(self.world.steps), self.node, self.will))
        self.gone()
        self.sure()

    def gone(self):
        """The connection is over."""
        self.peer = self.node = None
        if not self.stays:
            self.forget()

    def lose(self):
        """Ends without DISCONNECT; the will is out when this returns."""
        self.note_stash()
        self.peer.drop()
        will = self.will
        self.unsure()
        self.gone()
        if will:
            self.world.sent(WILLS + self.name, will, 1, False, loose=True)
            self.world.watch(will)


class Sensor(Client):
    """A client of MQTT-SN, that sleeps most of the time."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.sn, self.node, self.asleep, self.exists = None, None, False, False

    def at(self, node):
        self.sn.gateway = ("127.0.0.1", node.sn)
        if node is not self.node:
            self.world.probe(node)
            if self.node and not self.asleep:
                self.unsure()
            if random.random() < 0.5:
                self.sn.rebind()
        self.node = node

    def connect(self, node):
        if self.sn is None:
            self.sn = sn_client.Client("127.0.0.1", node.sn, self.name)
        self.at(node)
        self.sn.connect(clean=not self.exists)
        self.exists, self.asleep = True, False
        # What crossed CONNECT was acknowledged behind it.
        self.take()
        self.unsure()

    def subscribe(self, topic, qos):
        self.sn.subscribe(topic, qos)
        self.subscribed(topic, qos)

    def publish(self, topic, payload, qos, retain):
        self.sn.publish(topic, payload, qos, retain)

    def take(self):
        while self.sn.inbox:
            got = self.sn.inbox.popleft()
            self.note(Got(got.topic, got.data, got.qos, got.retain, got.dup))

    def sleep(self):
        self.take()
        self.fresh.clear()
        self.sn.sleep(EXPIRY)
        self.asleep = True
        self.take()
        # What crossed DISCONNECT was acknowledged behind it.
        crossed = dict(self.fresh)
        self.sure()
        self.again.update(crossed)

    def wake(self, node):
        self.at(node)
        self.sn.wake()
        self.take()

    def drain(self):
        end = time.monotonic() + DUE
        while self.is_owed():
            if self.asleep:
                self.wake(self.node)
            else:
                got = self.sn.receive(max(0.0, end - time.monotonic()))
                if got is not None:
                    self.sn.inbox.appendleft(got)
                self.take()
            check(time.monotonic() < end, f"{self} waits in vain for {self.wants()}")

    def extra(self, seconds):
        if self.asleep:
            self.wake(self.node)
        else:
            self.sn.idle(seconds)
            self.take()


class World:
    """All clients, and what is retained."""

    def __init__(self, nodes, seed):
        random.seed(seed)
        self.nodes, self.payloads, self.retained = nodes, set(), {}
        self.kept, self.left = collections.defaultdict(set), collections.deque(maxlen=4)
        self.group, self.group_again, self.maybe = set(), set(), set()
        self.steps, self.probes = [], {}
        self.mqtt = [Mqtt(self, f"stays{n}", 4 + n % 2, True) for n in range(4)]
        self.mqtt += [Mqtt(self, f"goes{n}", 4 + n % 2, False) for n in range(2)]
        self.members = [Mqtt(self, f"member{n}", 5, True, member=True) for n in range(3)]
        self.sensors = [Sensor(self, f"sensor{n}") for n in range(3)]
        self.watcher = Mqtt(self, "watcher", 5, True)

    def everybody(self):
        return [self.watcher, *self.mqtt, *self.members, *self.sensors]

    def payload(self, prefix="n"):
        payload = f"{prefix}{len(self.payloads) + 1}".encode()
        self.payloads.add(payload)
        return payload

    def node(self):
        return random.choice(self.nodes)

    def probe(self, node):
        """What was acknowledged anywhere so far is known at this node when this returns: a kept SUBSCRIBE is behind it."""
        probe = self.probes.get(node.number)
        if probe is None:
            probe = Peer(node.mqtt, f"probe{node.number}", set(), clean=True, properties={"session_expiry": EXPIRY})
            self.probes[node.number] = probe
        probe.pid += 1
        probe.send(wire.subscribe(probe.pid, [("none/+", 0)], probe.v))
        probe.answer(wire.SUBACK)

    def begin(self):
        self.watcher.connect(self.node())
        for one in [*self.mqtt, *self.members]:
            self.watcher.subscribe(WILLS + one.name, 1)
        for one in self.members:
            one.connect(self.node(), clean=True)
            one.subscribe(SHARED, 1)
        for one in self.sensors:
            one.connect(self.node())
            one.subscribe(random.choice(TOPICS), 1)

    def sent(self, topic, payload, qos, retain, loose=False):
        """A message was acknowledged: it is due."""
        if retain:
            self.retained[topic] = (payload, qos)
            self.kept[topic].add(payload)
        if topic == SHARED:
            if qos:
                self.group.add(payload)
            return
        for one in self.everybody():
            if topic in one.subs:
                one.owe(payload, min(qos, one.subs[topic]), loose)

    def watch(self, will):
        check(any(item.payload == will for item in self.watcher.loose), "the watcher wants all wills")
        until(lambda: self.watcher.extra(0.02) or all(item.payload != will for item in self.watcher.loose),
              f"the will {will}", DUE, pause=0.0)

    def say(self, text):
        self.steps.append(text)

    def step(self):
        one = random.choice([*self.mqtt, *self.mqtt, *self.members, *self.sensors, *self.sensors])
        node = self.node()
        if isinstance(one, Sensor):
            self.sensor(one, node)
        elif one.peer is None:
            clean = random.random() < 0.1 and not one.member
            self.say(f"{one} connects to {node.number}{' clean' if clean else ''}")
            one.connect(node, clean)
        else:
            self.client(one, node)

    def publish(self, one):
        shared = random.random() < 0.15
        topic = SHARED if shared else random.choice(TOPICS)
        payload = self.payload("s" if shared else "n")
        qos = 1 if shared else random.choice((0, 1, 1, 2, 2))
        retain = not shared and random.random() < 0.15
        self.say(f"{one} at {one.node.number} publishes {payload} to {topic}, qos {qos}{', retained' if retain else ''}")
        # The broker may hand it on before it is acknowledged, also to who publishes.
        self.sent(topic, payload, qos, retain)
        one.publish(topic, payload, qos, retain)
        if qos == 0 and retain:
            # Nothing says when it is kept: what comes behind it on this connection is.
            if isinstance(one, Mqtt):
                one.peer.ping()
                one.peer.publish("barrier", b"", 1)
            else:
                one.sn.ping()
                one.sn.publish("barrier", b"", 1)

    def client(self, one, node):
        what = random.choices(("publish", "subscribe", "unsubscribe", "drain", "leave", "bounce", "take over", "lose"),
                              (40, 10, 3, 15, 8, 8, 5, 5))[0]
        if what == "publish":
            self.publish(one)
            return
        if what == "subscribe" and not one.member:
            topic = random.choice([*TOPICS, *(WILLS + it.name for it in self.mqtt)])
            qos = random.choice((0, 1, 2)) if topic in TOPICS else 1
            self.say(f"{one} at {one.node.number} subscribes to {topic}, qos {qos}")
            # What was published with the former QoS comes first.
            one.drain()
            one.subscribe(topic, qos)
        elif what == "unsubscribe" and not one.member and one.subs:
            topic = random.choice(sorted(one.subs))
            self.say(f"{one} at {one.node.number} unsubscribes from {topic}")
            one.unsubscribe(topic)
        elif what == "drain":
            self.say(f"{one} at {one.node.number} takes all of {len(one.due)}")
            one.drain()
        elif what == "leave":
            self.say(f"{one} leaves {one.node.number}, {len(one.due)} due")
            one.leave()
        elif what == "bounce":
            self.say(f"{one} leaves {one.node.number} for {node.number}, {len(one.due)} due")
            self.probe(node)
            one.last = node
            one.leave()
            one.connect(node)
        elif what == "take over" and one.stays:
            self.say(f"{one} takes itself over from {one.node.number} at {node.number}, {len(one.due)} due")
            will = one.will
            one.connect(node)
            if will:
                # [MQTT-3.1.4-3]: the connection before is closed by the server, so its will is out.
                self.sent(WILLS + one.name, will, 1, False, loose=True)
                self.watch(will)
        elif what == "lose":
            self.say(f"{one} is lost at {one.node.number}, {len(one.due)} due")
            one.lose()

    def sensor(self, one, node):
        what = random.choices(("publish", "subscribe", "sleep", "wake", "wake twice", "connect", "drain"),
                              (20, 5, 15, 15, 15, 5, 10))[0]
        if what in ("wake", "wake twice"):
            if not one.asleep:
                return
            node = node if random.random() < 0.5 else one.node
            self.say(f"{one} of {one.node.number} wakes at {node.number}, {len(one.due)} due")
            one.wake(node)
            if what == "wake twice":
                one.wake(node)
        elif what == "connect":
            self.say(f"{one} of {one.node.number} connects to {node.number}, {len(one.due)} due")
            one.connect(node)
        elif what == "drain":
            self.say(f"{one} at {one.node.number} takes all of {len(one.due)}")
            one.drain()
        elif one.asleep:
            return
        elif what == "publish":
            self.publish(one)
            one.take()
        elif what == "subscribe":
            topic, qos = random.choice(TOPICS), random.choice((1, 2))
            self.say(f"{one} at {one.node.number} subscribes to {topic}, qos {qos}")
            one.drain()
            one.subscribe(topic, qos)
            one.take()
        elif what == "sleep":
            self.say(f"{one} sleeps at {one.node.number}")
            one.sleep()

    def killed(self, node):
        """A node was killed and is back."""
        # A DISCONNECT has no answer: what a node heard just before it was killed may not have been kept.
        for step, where, will in self.left:
            if where is node and step >= len(self.steps) - 3:
                self.maybe.add(will)
        probe = self.probes.pop(node.number, None)
        if probe:
            probe.sock.close()
        for one in self.everybody():
            if one.node is not node:
                continue
            if isinstance(one, Mqtt):
                one.note_stash()
                one.unsure()
                one.peer.sock.close()
                will = one.will
                one.gone()
                # It comes unless the client is back within `mqtt.will_restart_grace`.
                self.maybe.add(will)
            else:
                one.unsure()
        if self.watcher.peer is None:
            self.watcher.connect(self.node())
        # A CONNECT like the one before may be taken for a copy: then the client is still at the node it was at.
        for one in self.sensors:
            if not one.asleep:
                one.unsure()
                # What it sent to the node that died may be answered with DISCONNECT by its successor.
                one.sn.rebind()
                one.connect(self.node())

    def end(self):
        self.say("the end")
        for one in self.everybody():
            if isinstance(one, Mqtt) and one.peer is None:
                one.connect(self.node())
        for one in self.everybody():
            one.drain()
        for _ in range(2):
            for one in self.everybody():
                one.extra(QUIET / 4)
        until(lambda: [one.extra(0.05) for one in self.members] and not self.group, f"the group's {self.group}", DUE)
        for one in self.everybody():
            check(not one.is_owed(), f"{one} waits")
            if isinstance(one, Mqtt):
                one.leave()
            else:
                one.sn.connect(clean=True)
                one.sn.disconnect()
                one.sn.close()
        for one in self.everybody():
            if isinstance(one, Mqtt):
                Peer(self.nodes[0].mqtt, one.name, set(), clean=True).leave()
        self.probe(self.nodes[0])
        for topic in TOPICS:
            self.probes[self.nodes[0].number].publish(topic, b"", 1, True)
        for probe in self.probes.values():
            probe.leave()


class Alone(run.Node):
    """A node that is in no cluster."""

    def config(self):
        return super().config().partition("[cluster]")[0]

    def serves(self):
        try:
            self.client("is-there").end()
        except (Failed, OSError):
            return False
        return True


class One(run.Cluster):
    """No cluster, but a node alone."""

    def __init__(self, binary):
        self.binary, self.nodes = binary, {1: Alone(1, binary, lambda: [])}

    def wait(self, timeout=40.0):
        until(self.nodes[1].serves, "it serves", timeout)


def walk(cluster, seed, steps, kill):
    """One walk by this seed; how many messages were published."""
    world = World(list(cluster.nodes.values()), seed)
    world.begin()
    kills = set(random.sample(range(steps // 10, steps), 3)) if kill else ()
    try:
        for number in range(steps):
            world.step()
            if number in kills:
                node = world.node()
                world.say(f"{node.number} is killed")
                node.kill()
                node.begin()
                cluster.wait(60)
                world.killed(node)
        world.end()
    except (Failed, OSError, wire.WireError, sn_client.MqttSnError) as error:
        last = "\n    ".join(world.steps[-40:])
        raise Failed(f"{type(error).__name__}: {error}; seed {seed}, step {len(world.steps)}, behind\n    {last}") from error
    return len(world.payloads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--seed", help="a number, or the first and last of several: 7-99; else 1-3")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--alone", action="store_true", help="with a node that is in no cluster")
    parser.add_argument("--kill", action="store_true", help="three times a node is killed and started again")
    args = parser.parse_args()
    results = Results()
    if args.seed:
        first, _, last = args.seed.partition("-")
        seeds = range(int(first), int(last or first) + 1)
    else:
        seeds = [1, 2, 3]
    cluster = One(args.bin) if args.alone else run.Cluster(args.bin)
    try:
        cluster.start()
        for seed in seeds:
            begin = time.monotonic()
            name = f"orderly/seed-{seed}"
            try:
                count = walk(cluster, seed, args.steps, args.kill)
            except Failed as failed:
                results.fail(name, str(failed), time.monotonic() - begin)
                break
            results.ok(f"{name}: {count} messages", time.monotonic() - begin)
    finally:
        cluster.remove()
    return results.close("orderly")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(str(failed))
