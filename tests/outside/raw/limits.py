"""Limits of the server and of the client: sizes, and features that the server leaves out."""

import wire
from rows import check, row


@row(v="345", s5="3.2.2-15")
async def packet_above_the_limit_of_the_server(t):
    """max_packet_size is 1 MiB by default: 0x95 in 5.0, a close in 3.x, before the body has come."""
    conn = await t.connect()
    conn.send(bytes([wire.PUBLISH << 4]) + wire.varint(1 << 21) + wire.text(t.topic()))
    await conn.expect_end(0x95)


@row(v="345", profile="small", s5="3.2.2-15")
async def packet_size_is_exact(t):
    """2,048 bytes, the whole packet counted, are allowed here; one more is not."""
    conn = await t.connect()
    bare = len(wire.publish(t.topic(), b"", v=t.v, qos=1, pid=1)) + 1
    await conn.subscribe(t.topic())
    fits = b"x" * (2048 - bare)
    conn.post(t.topic(), fits, 1)
    kinds = {(await conn.recv()).kind, (await conn.recv()).kind}
    check(kinds == {wire.PUBACK, wire.PUBLISH}, kinds)
    conn.post(t.topic(), fits + b"x", 1)
    await conn.expect_end(0x95)


@row(v="5", profile="small", s5="3.2.2-15")
async def packet_size_is_told(t):
    conn = await t.connect()
    check(conn.connack.properties.get("maximum_packet_size") == 2048, conn.connack)


@row(v="5", s5="3.1.4-1")
async def connect_too_large(t):
    """Memory before CONNECT is capped: 0x95 or a close."""
    conn = await t.open()
    conn.send(bytes([wire.CONNECT << 4]) + wire.varint(200_000_000) + wire.text("MQTT") + b"\x05\x02\0\0")
    packet = await conn.recv()
    if packet is not None:
        check(packet.kind == wire.CONNACK and packet.rc == 0x95, packet)
        await conn.expect_close()


@row(v="5", s5="3.1.2-24 3.1.2-25")
async def maximum_packet_size_of_the_client(t):
    """What is too large for the client is skipped and counts as delivered; the next message arrives."""
    sub = await t.connect("sub", properties={"maximum_packet_size": 200, "receive_maximum": 1})
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    for qos in (0, 1, 2):
        await pub.publish(t.topic(), b"x" * 300, qos)
        await pub.publish(t.topic(), b"fits %d" % qos, qos)
        packet = await sub.message(t.topic(), b"fits %d" % qos, qos)
        check(packet.size <= 200, packet)
    await sub.quiet()


@row(v="5", s5="3.1.2-24")
async def maximum_packet_size_is_exact(t):
    """A packet of exactly the client's maximum is sent."""
    overhead = len(wire.publish(t.topic(), b"", 0, None, 5))
    sub = await t.connect("sub", properties={"maximum_packet_size": overhead + 50})
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x" * 51)
    await pub.publish(t.topic(), b"y" * 50)
    await sub.message(t.topic(), b"y" * 50)


@row(v="5", s5="3.1.2-25")
async def too_large_in_a_resumed_session(t):
    """What waited and does not fit the new connection is skipped there too."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x" * 300, 1)
    await pub.publish(t.topic(), b"fits", 1)
    sub = await t.keeper("sub", present=True, properties={"maximum_packet_size": 150})
    await sub.message(t.topic(), b"fits", 1)
    await sub.quiet()


@row(v="5", s5="3.2.2-19 3.2.2-20 3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2 "
               "3.11.2-1 3.11.2-2")
async def answers_fit_a_tiny_maximum(t):
    """Reason strings and user properties are left out where they would not fit: every answer is there and small."""
    conn = await t.connect("c", properties={"maximum_packet_size": 24, "topic_alias_maximum": 0})
    top = 24
    answers = []
    for kind, packet in ((wire.PUBACK, wire.publish("$SYS/x", b"", 1, 1)),
                         (wire.PUBREC, wire.publish("$SYS/x", b"", 2, 2)),
                         (wire.PUBCOMP, wire.ack(wire.PUBREL, 9)),
                         (wire.PUBREL, wire.ack(wire.PUBREC, 8)),
                         (wire.SUBACK, wire.subscribe(3, [("$share/g/" + "a", 0)])),
                         (wire.UNSUBACK, wire.unsubscribe(4, ["never"]))):
        conn.send(packet)
        answers.append(await conn.expect(kind))
    check(all(a.size <= top for a in answers), answers)


@row(v="5", s5="3.14.2-3 3.14.2-4")
async def disconnect_fits_a_tiny_maximum(t):
    conn = await t.connect(properties={"maximum_packet_size": 8})
    conn.send(wire.frame(0, 0))
    packet = await conn.expect(wire.DISCONNECT)
    check(packet.size <= 8, packet)


# ---- profile limits: what 5.0 lets a server leave out ----


@row(v="5", profile="limits", s5="3.2.2-9")
async def what_is_left_out_is_told(t):
    told = (await t.connect()).connack.properties
    want = {"maximum_qos": 1, "retain_available": 0, "wildcard_available": 0, "subscription_ids_available": 0,
            "shared_available": 0}
    check({k: told.get(k) for k in want} == want, told)


@row(v="345", profile="limits", s4="3.8.4-5 3.8.4-6", s5="3.2.2-10 3.8.4-7")
async def qos_2_subscriptions_are_granted_qos_1(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2, want=[1])
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    await sub.message(t.topic(), b"x", 1)


@row(v="5", profile="limits", s5="3.2.2-11")
async def qos_above_the_maximum(t):
    conn = await t.connect()
    conn.post(t.topic(), b"x", 2)
    await conn.expect_end(0x9B)


@row(v="5", profile="limits", s5="3.2.2-12")
async def will_qos_above_the_maximum(t):
    conn = await t.connect(rc=0x9B, will=(t.topic(), b"x", 2, False))
    await conn.expect_close()


@row(v="5", profile="limits", s5="3.2.2-14")
async def retained_although_not_available(t):
    conn = await t.connect()
    conn.post(t.topic(), b"x", 1, retain=True)
    await conn.expect_end(0x9A)


@row(v="5", profile="limits", s5="3.2.2-13")
async def retained_will_although_not_available(t):
    conn = await t.connect(rc=0x9A, will=(t.topic(), b"x", 0, True))
    await conn.expect_close()


async def refused_filter(t, topic_filter, code, properties=None):
    """In SUBACK or by DISCONNECT, both with that code; 3.x by 0x80 or the close."""
    conn = await t.connect()
    conn.send(wire.subscribe(1, [(topic_filter, 0)], t.v, properties))
    packet = await conn.recv()
    if packet is None:
        check(t.v != 5, "closed without a code")
    elif packet.kind == wire.SUBACK:
        check(packet.rcs == [code if t.v == 5 else 0x80], packet)
    else:
        check(packet.kind == wire.DISCONNECT and packet.rc == code, packet)
        await conn.expect_close()


@row(v="345", profile="limits", s4="3.8.3-2")
async def wildcard_although_not_available(t):
    await refused_filter(t, t.topic("+"), 0xA2)


@row(v="345", profile="limits")
async def shared_although_not_available(t):
    await refused_filter(t, f"$share/g/{t.topic()}", 0x9E)


@row(v="5", profile="limits")
async def subscription_id_although_not_available(t):
    await refused_filter(t, t.topic(), 0xA1, {"subscription_id": 1})


@row(v="5", profile="small")
async def max_subscriptions(t):
    """20 here: the one above is refused by 0x97 (quota exceeded), those in force stay."""
    conn = await t.connect()
    await conn.subscribe(*(t.topic(f"n{i}") for i in range(20)))
    await conn.subscribe(t.topic("more"), want=[0x97])
    await conn.subscribe(t.topic("n3"), qos=1)
    await conn.unsubscribe(t.topic("n0"))
    await conn.subscribe(t.topic("more"))


@row(v="5", s5="3.1.4-1")
async def connect_larger_than_its_own_limit(t):
    """384 KiB before a client is known: 0x95 or a close. What is below is served."""
    def with_properties(count):
        pairs = [("k", "v" * 60000)] * count
        will = (t.topic("will"), b"x" * 60000, 0, False)
        return wire.connect(t.cid(), will=will, properties={"user_property": pairs})

    conn = await t.open("fits")
    conn.send(with_properties(4))
    await conn.connected()
    await conn.disconnect()
    conn = await t.open("large")
    conn.send(with_properties(6))
    packet = await conn.recv()
    if packet is not None:
        check(packet.kind == wire.CONNACK and packet.rc == 0x95, packet)
        await conn.expect_close()
