#!/usr/bin/env python3
"""MQTT-SN over three nodes: sleepers that wake elsewhere, datagrams that come to any node.

    python3 tests/cluster/sensors.py --bin target/debug/nightjar [--only WORD]
"""

import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import run  # noqa: E402
from run import Failed, check, until  # noqa: E402

import sn_client  # noqa: E402

run.CASES.clear()
LOOPBACK = "127.0.0.1"
TURNS = 100


class Spread(sn_client.Client):
    """A client behind a balancer that spreads its datagrams: each goes to the next node."""

    def __init__(self, nodes, cid, **options):
        self.turns = itertools.cycle([(LOOPBACK, node.sn) for node in nodes])
        super().__init__(LOOPBACK, nodes[0].sn, cid, **options)

    def send(self, datagram):
        self.gateway = next(self.turns)
        super().send(datagram)


def sensor(node, cid, **options):
    return sn_client.Client(LOOPBACK, node.sn, cid, **options)


def talk(client):
    """The messages of a client, as bytes."""
    return [message.data for message in client]


@run.case
def a_sleeper_wakes_at_another_node_and_back(cluster):
    """Its messages, subscriptions and topic ids are there, in order and once, wherever it wakes."""
    one, two, three = (cluster.nodes[n] for n in run.NODES)
    client = sensor(one, "dozer")
    client.connect(clean=False)
    client.subscribe("doze/#", 1)
    own = client.register("doze/own")
    client.sleep(600)
    with two.client("night-shift") as publisher:
        for number in range(5):
            publisher.publish("doze/a", b"a%d" % number)
        # A new address and another node.
        client.gateway = (LOOPBACK, three.sn)
        client.rebind()
        got = talk(client.wake())
        check(got == [b"a%d" % number for number in range(5)], got)
        again = client.wake()
        check(not again, f"twice: {again}")
        for number in range(3):
            publisher.publish("doze/b", b"b%d" % number)
        client.gateway = (LOOPBACK, one.sn)
        got = talk(client.wake())
        check(got == [b"b0", b"b1", b"b2"], got)
        # Awake for good at the third of them, with the topic id of the first.
        client.gateway = (LOOPBACK, two.sn)
        client.connect(clean=False)
        listener = three.client("day-shift")
        listener.subscribe("doze/own", 1)
        check(client.ids["doze/own"] == own, "the id is the client's")
        client.publish("doze/own", b"by id", qos=1)
        check(listener.message().payload == b"by id", "the id means the same on every node")
        listener.end()
    client.connect(clean=True)
    client.disconnect()
    client.close()


@run.case
def a_sleeper_that_asks_again_at_once_gets_nothing_twice(cluster):
    """What it acknowledged and its next wake may stand in one proposal of its node."""
    client = sensor(cluster.nodes[1], "light-sleeper")
    client.connect(clean=False)
    client.subscribe("light/#", 1)
    client.sleep(600)
    with cluster.nodes[2].client("light-switch") as publisher:
        for number in range(TURNS):
            publisher.publish("light/a", b"%d" % number)
            # The publisher's node may be ahead of the sleeper's.
            got = until(lambda: talk(client.wake()), "a message")
            check(got == [b"%d" % number], got)
            again = client.wake()
            check(not again, f"twice: {again}")
    client.connect(clean=True)
    client.disconnect()
    client.close()


@run.case
def datagrams_that_come_to_any_node_are_served(cluster):
    """Every datagram goes to another node than the one before, and is answered from there."""
    nodes = list(cluster.nodes.values())
    client = Spread(nodes, "spread")
    will = sn_client.Will("spread/will", b"gone", 1)
    client.connect(clean=False, will=will)
    watcher = nodes[2].client("spread-watcher")
    watcher.subscribe("spread/#", 2)
    client.register("spread/up")
    for qos in (0, 1, 2, 1, 2, 0):
        client.publish("spread/up", b"qos %d" % qos, qos=qos)
        got = watcher.message().payload
        check(got == b"qos %d" % qos, got)
    client.subscribe("down/+", 2)
    for number, qos in enumerate((1, 2, 0, 2, 1)):
        topic = f"down/{number % 2}"
        if qos == 2:
            watcher.publish2(topic, b"%d" % number)
        else:
            watcher.publish(topic, b"%d" % number, qos=qos)
        got = client.receive(20)
        check(got is not None and got.data == b"%d" % number, got)
    client.idle(1.0)
    check(not client.inbox, f"nothing twice: {client.inbox}")
    client.ping()
    client.sleep(300)
    for number in range(4):
        watcher.publish("down/0", b"night %d" % number)
    got = talk(client.wake())
    check(got == [b"night %d" % number for number in range(4)], got)
    client.connect(clean=False)
    client.disconnect()
    asked = [entry for kind, entry in client.trace if kind == "received" and entry.type == sn_client.DISCONNECT]
    check(len(asked) == 2, f"DISCONNECT came for the sleep and the end alone, not {len(asked)} times")
    watcher.quiet()
    watcher.end()
    client.connect(clean=True)
    client.disconnect()
    client.close()


@run.case
def answers_leave_from_the_node_that_was_asked(cluster):
    nodes = list(cluster.nodes.values())
    client = sensor(nodes[0], "echo")
    client.connect()
    for node in (nodes[1], nodes[2], nodes[0], nodes[1]):
        client.gateway = (LOOPBACK, node.sn)
        client.send(sn_client.pingreq())
        answer = client.next_message(10)
        check(answer is not None and answer.type == sn_client.PINGRESP, answer)
        check(answer.source == (LOOPBACK, node.sn), f"{answer.source} instead of {node.sn}")
    client.disconnect()
    client.close()


@run.case
def strangers_are_told_so_by_the_node_they_ask(cluster):
    for node in cluster.nodes.values():
        client = sensor(node, "nobody")
        client.send(sn_client.pack(sn_client.SUBSCRIBE, b"\x20\x00\x01a/b"))
        answer = client.next_message(10)
        check(answer is not None and answer.type == sn_client.DISCONNECT, answer)
        check(answer.source == (LOOPBACK, node.sn), answer.source)
        client.close()


@run.case
def a_sleeper_of_a_killed_node_wakes_at_another(cluster):
    leader = cluster.leader()
    victim = next(node for node in cluster.nodes.values() if node is not leader)
    client = sensor(victim, "orphan")
    client.connect(clean=False)
    client.subscribe("orphan/#", 1)
    client.sleep(600)
    with leader.client("orphan-publisher") as publisher:
        publisher.publish("orphan/1", b"before")
        victim.kill()
        try:
            publisher.publish("orphan/1", b"after")
            client.gateway = (LOOPBACK, leader.sn)
            got = talk(client.wake())
            check(got == [b"before", b"after"], got)
        finally:
            victim.begin()
            cluster.wait(60)
    client.gateway = (LOOPBACK, victim.sn)
    check(talk(until(lambda: [client.wake()], "it wakes on the node that came back")[0]) == [], "nothing twice")
    client.connect(clean=True)
    client.disconnect()
    client.close()


if __name__ == "__main__":
    try:
        sys.exit(run.main("sensors", (sn_client.MqttSnError,)))
    except Failed as failed:
        sys.exit(str(failed))
