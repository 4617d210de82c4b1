"""Quirks of real clients: what lenient mode (the default) serves and strict mode does not."""

import wire
from rows import check, row


@row(v="34")
async def dup_with_qos_0(t):
    """3.x: counted and served. (5.0: 0x81, whatever the mode; see malformed.)"""
    conn = await t.connect()
    await conn.subscribe(t.topic())
    conn.post(t.topic(), b"x", dup=True)
    await conn.message(t.topic(), b"x", 0, dup=False)


@row(v="34", profile="strict", s4="3.3.1-2")
async def dup_with_qos_0_in_strict_mode(t):
    conn = await t.connect()
    conn.post(t.topic(), b"x", dup=True)
    await conn.expect_close()


@row(v="5", profile="strict", s5="3.3.1-2")
async def strict_mode_of_50(t):
    conn = await t.connect()
    conn.post(t.topic(), b"x", dup=True)
    await conn.expect_end(0x81)


@row(v="345")
async def dup_on_a_first_send(t):
    """Served as a first one: each is delivered."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    for qos in (1, 2):
        await pub.publish(t.topic(), b"%d" % qos, qos, dup=True)
        await sub.message(t.topic(), b"%d" % qos, qos, dup=False)


@row(v="345", profile="strict")
async def ordinary_clients_in_strict_mode(t):
    """Strict mode disturbs no client that keeps to the standard."""
    conn = await t.connect()
    await conn.subscribe(t.topic(), qos=2)
    for qos in (0, 1, 2):
        conn.post(t.topic(), b"x", qos, pid=qos)
        kinds = set()
        if qos == 0:
            await conn.message(t.topic(), b"x", 0)
            continue
        while not {wire.PUBLISH, *((wire.PUBACK,) if qos == 1 else (wire.PUBCOMP, wire.PUBREL))} <= kinds:
            packet = await conn.recv()
            kinds.add(packet.kind)
            if packet.kind == wire.PUBREC:
                conn.send(wire.ack(wire.PUBREL, packet.pid))
            elif packet.kind == wire.PUBLISH:
                conn.send(wire.ack(wire.PUBACK if qos == 1 else wire.PUBREC, packet.pid))
            elif packet.kind == wire.PUBREL:
                conn.send(wire.ack(wire.PUBCOMP, packet.pid))
        await conn.ping()


@row(v="345", phase="timed")
async def subscriber_that_acknowledges_late(t):
    """Its window stays as it is: after 5 s the acknowledgements still count and the next messages come."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i in range(40):
        await pub.publish(t.topic(), b"%d" % i, 1)
    held = [await sub.message(payload=b"%d" % i, ack=False) for i in range(32)]
    await sub.quiet(5)
    for packet in held:
        await sub.acknowledge(packet)
    for i in range(32, 40):
        await sub.message(payload=b"%d" % i)


@row(v="345")
async def acknowledgements_in_any_order(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i in range(8):
        await pub.publish(t.topic(), b"%d" % i, 1)
    for packet in reversed([await sub.message(ack=False) for _ in range(8)]):
        await sub.acknowledge(packet)
    await sub.quiet()
    check(sub.connack.rc == 0, "alive")
