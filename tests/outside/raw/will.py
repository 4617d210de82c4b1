"""Will messages: when published, when not, with what, and after which delay."""

import time

import wire
from rows import check, row


async def watcher_of(t, **options):
    watcher = await t.connect("watcher")
    await watcher.subscribe(t.topic("will"), **options)
    return watcher


@row(v="345", s4="3.1.2-8 3.1.2-9", s5="3.1.2-7 3.1.2-8 3.1.2-9")
async def published_when_the_network_fails(t):
    watcher = await watcher_of(t, qos=2)
    for qos in (0, 1, 2):
        conn = await t.connect(will=(t.topic("will"), b"gone %d" % qos, qos, False))
        await conn.drop()
        await watcher.message(t.topic("will"), b"gone %d" % qos, qos)


@row(v="345", s4="3.1.2-10 3.14.4-3 3.1.2-8", s5="3.1.2-10 3.14.4-3")
async def not_published_after_disconnect(t):
    watcher = await watcher_of(t)
    conn = await t.connect(will=(t.topic("will"), b"gone", 0, False))
    await conn.disconnect()
    await watcher.quiet(0.6)


@row(v="345", s4="3.1.2-12", s5="3.1.2-8")
async def none_without_the_flag(t):
    watcher = await watcher_of(t)
    conn = await t.connect()
    await conn.drop()
    await watcher.quiet(0.5)


@row(v="5", s5="3.14.4-3 3.1.2-8")
async def published_after_disconnect_with_will(t):
    """DISCONNECT 0x04 keeps the will; so does any code but 0x00."""
    watcher = await watcher_of(t)
    for rc in (0x04, 0x80, 0x93):
        conn = await t.connect(will=(t.topic("will"), b"%d" % rc, 0, False))
        conn.send(wire.disconnect(rc))
        await conn.expect_close()
        await watcher.message(t.topic("will"), b"%d" % rc)


@row(v="345", s4="3.1.2-8", s5="3.1.2-8 4.13.1-1")
async def published_after_a_protocol_error(t):
    watcher = await watcher_of(t)
    conn = await t.connect(will=(t.topic("will"), b"gone", 0, False))
    conn.send(wire.frame(0, 0))
    await watcher.message(t.topic("will"), b"gone")


@row(v="345", limit=30, s4="3.1.2-24 3.1.2-8", s5="3.1.2-22 3.1.2-8", phase="timed")
async def published_after_keep_alive(t):
    watcher = await watcher_of(t)
    await t.connect(keep_alive=1, will=(t.topic("will"), b"silent", 0, False))
    begin = time.monotonic()
    await watcher.message(t.topic("will"), b"silent")
    took = time.monotonic() - begin
    check(1.3 < took < 2.9, f"after {took:.2f} s")


@row(v="345", s4="3.1.2-16 3.1.2-17", s5="3.1.2-14 3.1.2-15")
async def retained_only_if_asked(t):
    for retain in (False, True):
        conn = await t.connect(will=(t.topic(f"will{retain}"), b"gone", 1, retain))
        await conn.drop()
    sub = await t.connect("sub")
    await sub.subscribe(t.topic("willFalse"), qos=1)
    await sub.quiet()
    await sub.subscribe(t.topic("willTrue"), qos=1)
    await sub.message(t.topic("willTrue"), b"gone", 1, retain=True)


@row(v="345")
async def empty_payload_is_legal(t):
    """Also as a retained will, which deletes what was retained."""
    watcher = await watcher_of(t)
    pub = await t.connect("pub")
    await pub.publish(t.topic("will"), b"kept", 1, retain=True)
    await watcher.message(t.topic("will"), b"kept")
    conn = await t.connect(will=(t.topic("will"), b"", 0, True))
    await conn.drop()
    await watcher.message(t.topic("will"), b"")
    sub = await t.connect("sub")
    await sub.subscribe(t.topic("will"))
    await sub.quiet()


@row(v="5", s5="3.1.3-10 3.3.2-18", phase="timed")
async def properties_go_with_it_but_not_the_delay(t):
    watcher = await watcher_of(t, qos=1)
    given = {"payload_format": 1, "message_expiry": 60, "content_type": "text/plain", "response_topic": "r/t",
             "correlation_data": b"\0c", "user_property": [("b", "1"), ("a", "2"), ("b", "3")]}
    conn = await t.connect(expiry=10, will=(t.topic("will"), b"gone", 1, False, {**given, "will_delay": 1}))
    await conn.drop()
    got = (await watcher.message(t.topic("will"), b"gone", 1)).properties
    check(58 <= got.pop("message_expiry") <= 60, "the expiry runs from the publication")
    given.pop("message_expiry")
    check(got == given, got)


@row(v="5", s5="3.1.2-8", phase="timed")
async def delay(t):
    """Published when the delay has passed, to a second."""
    watcher = await watcher_of(t)
    conn = await t.connect(expiry=60, will=(t.topic("will"), b"late", 0, False, {"will_delay": 2}))
    begin = time.monotonic()
    await conn.drop()
    await watcher.message(t.topic("will"), b"late")
    took = time.monotonic() - begin
    check(1.8 < took < 3.2, f"after {took:.2f} s")


@row(v="5", s5="3.1.2-8", phase="timed")
async def end_of_the_session_comes_before_the_delay(t):
    """The will is published at the end of the session or of the delay, whichever comes first."""
    watcher = await watcher_of(t)
    conn = await t.connect(expiry=1, will=(t.topic("will"), b"ended", 0, False, {"will_delay": 20}))
    none = await t.connect("none", expiry=0, will=(t.topic("will"), b"at once", 0, False, {"will_delay": 20}))
    begin = time.monotonic()
    await none.drop()
    await watcher.message(t.topic("will"), b"at once")
    check(time.monotonic() - begin < 1, "a session without expiry ends at once")
    begin = time.monotonic()
    await conn.drop()
    await watcher.message(t.topic("will"), b"ended")
    check(0.8 < time.monotonic() - begin < 2.3, f"after {time.monotonic() - begin:.2f} s")


@row(v="5", s5="3.1.3-9", phase="timed")
async def delay_is_cancelled_by_a_reconnect(t):
    """Clean Start 0 before the delay is over: never published."""
    watcher = await watcher_of(t)
    conn = await t.connect(expiry=60, will=(t.topic("will"), b"never", 0, False, {"will_delay": 1}))
    await conn.drop()
    conn = await t.connect(clean=False, expiry=60, present=True)
    await watcher.quiet(2)


@row(v="5", s5="3.1.3-9 3.1.2-8", phase="timed")
async def clean_start_publishes_a_delayed_will_at_once(t):
    """Clean Start 1 ends the old session, and its will goes out."""
    watcher = await watcher_of(t)
    conn = await t.connect(expiry=60, will=(t.topic("will"), b"session ended", 0, False, {"will_delay": 30}))
    await conn.drop()
    begin = time.monotonic()
    await t.connect(clean=True, expiry=60)
    await watcher.message(t.topic("will"), b"session ended")
    check(time.monotonic() - begin < 1, "not at once")
    await watcher.quiet()


@row(v="5", s5="3.1.3-9", phase="timed")
async def takeover_with_a_delay(t):
    """Clean Start 0 takes over in time: the delayed will of the old connection is not published."""
    watcher = await watcher_of(t)
    old = await t.connect(expiry=60, will=(t.topic("will"), b"never", 0, False, {"will_delay": 1}))
    await t.connect(clean=False, expiry=60, present=True)
    await old.expect_end(0x8E)
    await watcher.quiet(2)


@row(v="345", s4="3.1.2-10", s5="3.1.2-10")
async def published_once_and_forgotten(t):
    """A reconnect without a will leaves none behind."""
    watcher = await watcher_of(t)
    conn = await t.keeper(will=(t.topic("will"), b"once", 0, False))
    await conn.drop()
    await watcher.message(t.topic("will"), b"once")
    conn = await t.keeper()
    await conn.drop()
    await watcher.quiet(0.6)


@row(v="5", s5="3.1.2-10", phase="timed")
async def delayed_will_is_replaced_by_the_new_connections_will(t):
    watcher = await watcher_of(t)
    conn = await t.connect(expiry=60, will=(t.topic("will"), b"first", 0, False, {"will_delay": 1}))
    await conn.drop()
    conn = await t.connect(clean=False, expiry=60, will=(t.topic("will"), b"second", 0, False, {"will_delay": 1}))
    await conn.drop()
    await watcher.message(t.topic("will"), b"second")
    await watcher.quiet(1.5)


@row(v="345", s4="3.1.2-8", s5="3.1.2-8")
async def reaches_the_own_absent_session(t):
    """A will is a message like others: the session of the client itself gets it."""
    conn = await t.keeper(will=(t.topic("will"), b"me", 1, False))
    await conn.subscribe(t.topic("will"), qos=1)
    await conn.drop()
    conn = await t.keeper(present=True)
    await conn.message(t.topic("will"), b"me", 1, dup=None)


@row(v="345", s4="4.7.2-1", s5="3.1.2-9")
async def to_a_sys_topic_is_refused(t):
    """Publishing to $SYS is nobody's right: the CONNECT is refused, or the will never published."""
    watcher = await t.connect("watcher")
    await watcher.subscribe(f"$SYS/{t.key}")
    conn = await t.open()
    conn.send(wire.connect(t.cid(), t.v, will=(f"$SYS/{t.key}", b"forged", 0, False)))
    packet = await conn.recv()
    if packet is not None and packet.rc == 0:
        await conn.drop()
    await watcher.quiet(0.5)
