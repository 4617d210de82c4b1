"""QoS 1 and 2 across reconnects: what is sent again, with which flags and in which order."""

import wire
from rows import check, row


async def published(t, count, qos, topic=None):
    pub = await t.connect("pub")
    for i in range(count):
        await pub.publish(topic or t.topic(), b"%d" % i, qos)
    return pub


@row(v="345", s4="3.3.1-1 4.4.0-1 2.3.1-3 4.1.0-1", s5="3.3.1-1 4.4.0-1 4.3.2-3 3.1.2-23")
async def qos_1_unacknowledged_is_sent_again(t):
    """DUP is set, the packet identifier is the same, the message is the same."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await published(t, 1, 1)
    first = await sub.message(t.topic(), b"0", 1, dup=False, ack=False)
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    again = await sub.message(t.topic(), b"0", 1, dup=True)
    check(again.pid == first.pid, f"packet identifier {again.pid} after {first.pid}")
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    await sub.quiet()


@row(v="345", s4="4.6.0-1 4.6.0-6", s5="4.6.0-1 4.6.0-5")
async def resent_in_order(t):
    """All unacknowledged ones first, in their order, then what waited."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await published(t, 6, 1)
    for i in range(6):
        await sub.message(t.topic(), b"%d" % i, ack=False)
    await sub.disconnect()
    for i in range(6, 9):
        await pub.publish(t.topic(), b"%d" % i, 1)
    sub = await t.keeper("sub", present=True)
    for i in range(9):
        await sub.message(t.topic(), b"%d" % i, 1, dup=i < 6)
    await sub.quiet()


@row(v="345", s4="3.3.1-1 4.4.0-1 4.3.3-1", s5="3.3.1-1 4.4.0-1 4.3.3-3")
async def qos_2_without_pubrec_is_sent_again(t):
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    await published(t, 1, 2)
    first = await sub.message(t.topic(), b"0", 2, ack=False)
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    again = await sub.message(t.topic(), b"0", 2, dup=True)
    check(again.pid == first.pid, f"packet identifier {again.pid} after {first.pid}")
    await sub.quiet()


@row(v="345", s4="4.4.0-1 4.3.3-1", s5="4.4.0-1 4.3.3-4 4.3.3-5 4.3.3-6")
async def qos_2_after_pubrec_only_pubrel_is_sent_again(t):
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    await published(t, 1, 2)
    first = await sub.message(t.topic(), b"0", 2, ack=False)
    sub.send(wire.ack(wire.PUBREC, first.pid))
    await sub.expect(wire.PUBREL, pid=first.pid, rc=0)
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    await sub.expect(wire.PUBREL, pid=first.pid, rc=0)
    sub.send(wire.ack(wire.PUBCOMP, first.pid))
    await sub.quiet()
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    await sub.quiet()


@row(v="345", s4="4.3.3-2 4.1.0-1", s5="4.3.3-10 3.1.2-23")
async def qos_2_of_a_publisher_survives_its_reconnect(t):
    """The publisher repeats PUBLISH on a new connection: PUBREC again, delivered once."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.keeper("pub")
    pub.post(t.topic(), b"once", 2, 8)
    await pub.expect(wire.PUBREC, pid=8)
    await pub.drop()
    pub = await t.keeper("pub", present=True)
    pub.post(t.topic(), b"once", 2, 8, dup=True)
    await pub.expect(wire.PUBREC, pid=8, rc=0)
    pub.send(wire.ack(wire.PUBREL, 8))
    await pub.expect(wire.PUBCOMP, pid=8, rc=0)
    await sub.message(t.topic(), b"once", 2)
    await sub.quiet()


@row(v="345", s4="4.3.3-2", s5="4.3.3-11")
async def pubrel_on_a_new_connection(t):
    """The publisher's PUBREL after a reconnect is answered by PUBCOMP without an error."""
    pub = await t.keeper("pub")
    pub.post(t.topic(), b"x", 2, 8)
    await pub.expect(wire.PUBREC, pid=8)
    await pub.drop()
    pub = await t.keeper("pub", present=True)
    pub.send(wire.ack(wire.PUBREL, 8))
    await pub.expect(wire.PUBCOMP, pid=8, rc=0)


@row(v="345")
async def clean_start_forgets_incoming_qos_2(t):
    """After a new session the same packet identifier is a new message."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.keeper("pub")
    pub.post(t.topic(), b"one", 2, 8)
    await pub.expect(wire.PUBREC, pid=8)
    await pub.drop()
    pub = await t.keeper("pub", clean=True, present=False)
    await pub.publish(t.topic(), b"two", 2, pid=8)
    await sub.ask(lambda p: p.payload == b"two")


@row(v="45", s4="4.4.0-1", s5="4.4.0-1", phase="timed")
async def nothing_is_sent_again_in_a_live_connection(t):
    """An unacknowledged delivery waits: a subscriber that acknowledges late is not disturbed (watched for 5 s)."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    await published(t, 1, 1)
    packet = await sub.message(t.topic(), b"0", 1, ack=False)
    await sub.quiet(5)
    await sub.acknowledge(packet)
    await sub.ping()


@row(v="345", s4="3.3.1-1", s5="3.3.1-1 3.3.1-2")
async def queued_but_never_sent_has_no_dup(t):
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    await sub.disconnect()
    pub = await published(t, 1, 2)
    await pub.publish(t.topic(), b"one", 1)
    sub = await t.keeper("sub", present=True)
    await sub.message(t.topic(), b"0", 2, dup=False)
    await sub.message(t.topic(), b"one", 1, dup=False)
    await sub.quiet()


@row(v="345", s4="4.6.0-1", s5="4.6.0-1")
async def mixed_states_come_back_in_order(t):
    """Three QoS 2 deliveries: one awaits PUBCOMP, two await PUBREC."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    await published(t, 3, 2)
    pids = [(await sub.message(ack=False)).pid for _ in range(3)]
    sub.send(wire.ack(wire.PUBREC, pids[1]))
    await sub.expect(wire.PUBREL, pid=pids[1])
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    packets = [await sub.recv() for _ in range(3)]
    publishes = [p for p in packets if p.kind == wire.PUBLISH]
    check([p.pid for p in publishes] == [pids[0], pids[2]] and all(p.dup for p in publishes), packets)
    check([p.pid for p in packets if p.kind == wire.PUBREL] == [pids[1]], packets)
    sub.send(wire.ack(wire.PUBCOMP, pids[1]))
    for p in publishes:
        sub.send(wire.ack(wire.PUBREC, p.pid))
        await sub.expect(wire.PUBREL, pid=p.pid)
        sub.send(wire.ack(wire.PUBCOMP, p.pid))
    await sub.quiet()


@row(v="5", s5="4.3.3-7 4.3.3-13", phase="timed")
async def expiry_does_not_stop_a_started_exchange(t):
    """A message that expires after it was sent is sent again and completed after a reconnect."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"short", 2, properties={"message_expiry": 1})
    first = await sub.message(t.topic(), b"short", 2, ack=False)
    sub.send(wire.ack(wire.PUBREC, first.pid))
    await sub.expect(wire.PUBREL, pid=first.pid)
    await sub.drop(1.6)
    sub = await t.keeper("sub", present=True)
    await sub.expect(wire.PUBREL, pid=first.pid, rc=0)
    sub.send(wire.ack(wire.PUBCOMP, first.pid))
    await sub.quiet()
