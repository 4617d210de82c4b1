"""Sessions: kept, resumed, ended; what session present says; what waits while a client is away."""

import wire
from rows import check, row


@row(v="345", s4="3.1.2-4 3.2.2-2 3.2.2-3 4.1.0-2", s5="3.1.2-5 3.1.2-6 3.2.2-3")
async def resumed_with_its_subscriptions(t):
    """No SUBSCRIBE is needed after the reconnect, and session present says so."""
    conn = await t.keeper(present=False)
    await conn.subscribe(t.topic(), qos=1)
    await conn.disconnect()
    conn = await t.keeper(present=True)
    await conn.publish(t.topic(), b"x", 1)
    await conn.message(t.topic(), b"x", 1)


@row(v="345", s4="3.1.2-5 4.5.0-1 4.1.0-1", s5="4.5.0-1 4.1.0-1 3.1.2-23")
async def messages_wait_for_an_absent_client(t):
    """QoS 1 and 2, each in its order; QoS 0 too (queue_qos0 is on by default)."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    await sub.disconnect()
    pub = await t.connect("pub")
    for i, qos in enumerate((1, 2, 0, 1, 2)):
        await pub.publish(t.topic(), b"%d" % i, qos)
    await pub.ping()
    sub = await t.keeper("sub", present=True)
    got = {qos: [] for qos in (0, 1, 2)}
    for packet in await sub.messages(5):
        got[packet.qos].append(packet.payload)
    check(got == {0: [b"2"], 1: [b"0", b"3"], 2: [b"1", b"4"]}, got)
    await sub.quiet()


@row(v="345", s4="3.1.2-6 3.2.2-1 3.1.4-3", s5="3.1.2-4 3.2.2-2 3.1.4-4")
async def clean_start_discards_the_old_session(t):
    conn = await t.keeper()
    await conn.subscribe(t.topic(), qos=1)
    await conn.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"waiting", 1)
    conn = await t.keeper(clean=True, present=False)
    await conn.quiet()
    await pub.publish(t.topic(), b"not subscribed", 1)
    await conn.quiet()


@row(v="34", s4="3.1.2-6 3.2.2-3")
async def clean_session_ends_with_its_connection(t):
    """Clean session 1 leaves nothing for a later clean session 0."""
    conn = await t.connect(clean=True)
    await conn.subscribe(t.topic(), qos=1)
    await conn.disconnect()
    conn = await t.keeper(present=False)
    await conn.publish(t.topic(), b"x", 1)
    await conn.quiet()


@row(v="5", s5="4.1.0-2 3.2.2-3")
async def expiry_0_ends_with_the_connection(t):
    """Absent and 0 mean the same, by DISCONNECT or by the network."""
    for expiry in (None, 0):
        for graceful in (True, False):
            conn = await t.connect(clean=False, expiry=expiry, present=False)
            await conn.subscribe(t.topic(), qos=1)
            await (conn.disconnect() if graceful else conn.drop())
    await t.connect(clean=False, expiry=0, present=False)


@row(v="5", s5="4.1.0-2 3.1.2-23", phase="timed")
async def expiry_is_exact(t):
    """Present before the interval has passed, gone after it."""
    early, late = await t.connect("early", expiry=2), await t.connect("late", expiry=2)
    await early.drop()
    await late.drop()
    await (await t.connect("other")).quiet(0.7)
    await t.connect("early", clean=False, expiry=2, present=True)
    await (await t.connect("other")).quiet(2.2)
    await t.connect("late", clean=False, expiry=2, present=False)


@row(v="5", s5="4.1.0-2", phase="timed")
async def expiry_counts_from_the_last_disconnect(t):
    """Each connection starts it anew, with the interval of that connection."""
    conn = await t.connect(clean=False, expiry=2)
    await conn.disconnect()
    conn = await t.connect(clean=False, expiry=2, present=True)
    await conn.quiet(2.5)
    await conn.disconnect()
    await t.connect(clean=False, expiry=2, present=True)


@row(v="5", s5="3.1.2-23 4.1.0-2", phase="timed")
async def disconnect_changes_the_expiry(t):
    """DISCONNECT may shorten or lengthen it, but not from 0."""
    conn = await t.connect("short", expiry=300)
    await conn.disconnect(0, {"session_expiry": 0})
    await t.connect("short", clean=False, expiry=0, present=False)
    conn = await t.connect("long", expiry=1)
    await conn.disconnect(0, {"session_expiry": 300})
    await (await t.connect("other")).quiet(1.7)
    await t.connect("long", clean=False, expiry=0, present=True)


@row(v="5", s5="3.1.2-23")
async def expiry_without_end(t):
    """0xFFFFFFFF is asked: granted, or the cap is told in CONNACK (max_session_expiry, 30 days)."""
    conn = await t.connect(expiry=0xFFFFFFFF)
    check(conn.connack.properties.get("session_expiry") == 30 * 86400, conn.connack)
    await conn.disconnect()
    await t.connect(clean=False, present=True)


@row(v="5", profile="times", s5="4.1.0-2", phase="timed")
async def expiry_cap_is_told_and_kept(t):
    """max_session_expiry is 2 s here."""
    conn = await t.connect(clean=False, expiry=100)
    check(conn.connack.properties.get("session_expiry") == 2, conn.connack)
    conn2 = await t.connect("under", clean=False, expiry=1)
    check(conn2.connack.properties.get("session_expiry", 1) == 1, conn2.connack)
    await conn.disconnect()
    other = await t.connect("other")
    await other.quiet(1.3)
    await other.quiet(1.5)
    await t.connect(clean=False, expiry=100, present=False)


@row(v="4", profile="times", phase="timed")
async def expiry_of_3x(t):
    """session_expiry_3x is 2 s here."""
    conn = await t.connect(clean=False)
    await conn.disconnect()
    await t.connect(clean=False, present=True)
    gone = await t.connect("gone", clean=False)
    await gone.disconnect()
    other = await t.connect("other", keep_alive=60)
    await other.quiet(2.7)
    await t.connect("gone", clean=False, present=False)


@row(v="345", s4="3.1.2-4", s5="3.1.2-5")
async def session_crosses_versions(t):
    """A session begun by one version is resumed by another: subscriptions and waiting messages."""
    conn = await t.connect(v=4 if t.v == 5 else 5, clean=False, expiry=300)
    await conn.subscribe(t.topic(), qos=1)
    await conn.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    conn = await t.keeper(present=True)
    await conn.message(t.topic(), b"x", 1)


@row(v="345", s4="3.1.2-6 3.14.4-3", s5="4.1.0-1")
async def unsubscribed_stays_unsubscribed(t):
    conn = await t.keeper()
    await conn.subscribe(t.topic("a"), t.topic("b"), qos=1)
    await conn.unsubscribe(t.topic("a"))
    await conn.disconnect()
    conn = await t.keeper(present=True)
    await conn.publish(t.topic("a"), b"a", 1)
    conn.post(t.topic("b"), b"b")
    await conn.message(t.topic("b"), b"b")
    await conn.quiet()


@row(v="345", profile="small")
async def queue_is_bounded(t):
    """max_queue_len is 10 here and the policy is drop_oldest: the newest ten wait."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    for i in range(25):
        await pub.publish(t.topic(), b"%d" % i, 1)
    sub = await t.keeper("sub", present=True)
    got = []
    while True:
        sub.send(wire.pingreq())
        packet = await sub.recv()
        while packet.kind == wire.PUBLISH:
            got.append(int(packet.payload))
            sub.send(wire.ack(wire.PUBACK, packet.pid))
            packet = await sub.recv()
        check(packet.kind == wire.PINGRESP, packet)
        if got and got[-1] == 24:
            break
    check(got == list(range(15, 25)), f"what waited: {got}")


@row(v="345", s4="4.1.0-2", s5="4.1.0-1", phase="timed")
async def subscriptions_hold_while_connected(t):
    """The session lasts as long as the connection, whatever its expiry."""
    conn = await t.connect(expiry=1) if t.v == 5 else await t.connect()
    await conn.subscribe(t.topic())
    await conn.quiet(2)
    conn.post(t.topic(), b"x")
    await conn.message(t.topic(), b"x")


@row(v="345", s4="3.14.4-1 3.14.4-2", s5="3.14.4-1 3.14.4-2")
async def nothing_after_disconnect(t):
    """The server closes after DISCONNECT and serves nothing that came behind it."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    conn = await t.connect()
    conn.send(wire.disconnect() + wire.publish(t.topic(), b"too late", v=t.v) + wire.pingreq())
    await conn.expect_close()
    await sub.quiet()
