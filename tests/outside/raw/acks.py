"""Acknowledgements out of place: unknown identifiers, wrong kinds, refusals by reason code, their properties."""

import wire
from rows import check, row

NOT_FOUND = 0x92


@row(v="345", s4="4.3.3-2 2.3.1-6", s5="3.7.2-1 4.3.3-11")
async def pubrel_of_an_unknown_id(t):
    """PUBCOMP 0x92 in 5.0; 3.x knows no code and gets a plain PUBCOMP."""
    conn = await t.connect()
    conn.send(wire.ack(wire.PUBREL, 4711))
    await conn.expect(wire.PUBCOMP, pid=4711, rc=NOT_FOUND if t.v == 5 else 0)
    await conn.ping()


@row(v="5", s5="3.6.2-1")
async def pubrec_of_an_unknown_id(t):
    """PUBREL 0x92, so that the client can end its exchange."""
    conn = await t.connect()
    conn.send(wire.ack(wire.PUBREC, 4711))
    await conn.expect(wire.PUBREL, pid=4711, rc=NOT_FOUND)
    await conn.ping()


@row(v="345")
async def puback_and_pubcomp_of_unknown_ids(t):
    """Late acknowledgements of an exchange the server no longer knows do not end the connection."""
    conn = await t.connect()
    conn.send(wire.ack(wire.PUBACK, 4711), wire.ack(wire.PUBCOMP, 4712))
    await conn.ping()


@row(v="345", s4="4.3.3-2", s5="4.3.3-11")
async def pubrel_twice(t):
    conn = await t.connect()
    await conn.publish(t.topic(), b"x", 2, pid=6)
    conn.send(wire.ack(wire.PUBREL, 6))
    await conn.expect(wire.PUBCOMP, pid=6, rc=NOT_FOUND if t.v == 5 else 0)


@row(v="5", s5="4.4.0-2")
async def puback_with_an_error_ends_the_delivery(t):
    """Not sent again after a reconnect."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"refused", 1)
    packet = await sub.message(t.topic(), b"refused", 1, ack=False)
    sub.send(wire.ack(wire.PUBACK, packet.pid, 0x83))
    await sub.quiet()
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    await sub.quiet()


@row(v="5", s5="4.4.0-2 4.3.3-4")
async def pubrec_with_an_error_ends_the_delivery(t):
    """No PUBREL follows and nothing is sent again."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"refused", 2)
    packet = await sub.message(t.topic(), b"refused", 2, ack=False)
    sub.send(wire.ack(wire.PUBREC, packet.pid, 0x97))
    await sub.quiet()
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    await sub.quiet()


@row(v="5")
async def success_codes_and_properties_in_acks(t):
    """Each form of an acknowledgement is understood: with code, with empty and with real properties."""
    sub = await t.connect("sub")
    await sub.subscribe((t.topic("one"), 1), (t.topic("two"), 2))
    pub = await t.connect("pub")
    for rc, properties in ((None, None), (0, None), (0x10, None), (0, {}), (0, {"reason_string": "fine"}),
                           (0, {"user_property": [("a", "b"), ("a", "c")]})):
        await pub.publish(t.topic("one"), b"x", 1)
        packet = await sub.message(t.topic("one"), ack=False)
        sub.send(wire.ack(wire.PUBACK, packet.pid, rc, properties))
        await pub.publish(t.topic("two"), b"x", 2)
        packet = await sub.message(t.topic("two"), ack=False)
        sub.send(wire.ack(wire.PUBREC, packet.pid, rc, properties))
        await sub.expect(wire.PUBREL, pid=packet.pid, rc=0)
        sub.send(wire.ack(wire.PUBCOMP, packet.pid, 0 if rc == 0x10 else rc, properties))
    await sub.ping()


@row(v="5")
async def publisher_acks_with_properties(t):
    """PUBREL of a publisher with code and properties."""
    pub = await t.connect()
    full = {"reason_string": "go", "user_property": ("a", "b")}
    for i, (rc, properties) in enumerate(((0, None), (0, {}), (0, full))):
        pub.post(t.topic(), b"x", 2, i + 1)
        await pub.expect(wire.PUBREC, pid=i + 1)
        pub.send(wire.ack(wire.PUBREL, i + 1, rc, properties))
        await pub.expect(wire.PUBCOMP, pid=i + 1, rc=0)


@row(v="345")
async def puback_for_a_qos_2_delivery(t):
    """An acknowledgement of the wrong kind is an error of that connection, or without effect; never a crash
    or the end of the exchange."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 2)
    packet = await sub.message(t.topic(), b"x", 2, ack=False)
    sub.send(wire.ack(wire.PUBACK, packet.pid), wire.pingreq())
    answer = await sub.recv()
    if answer is not None and answer.kind == wire.PINGRESP:
        sub.send(wire.ack(wire.PUBREC, packet.pid))
        await sub.expect(wire.PUBREL, pid=packet.pid, rc=0)
        return
    check(answer is None or answer.kind == wire.DISCONNECT, answer)
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    await sub.message(t.topic(), b"x", 2, dup=True)
