"""Settings that change what happens: queue policies, strategies of shared subscriptions, retries, overrides."""

import asyncio
import collections

import wire
from rows import check, row


async def waiting(t, count, payload=b"%d", qos=1):
    """A session that was absent while so many messages came; returns it connected again."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    for i in range(count):
        await pub.publish(t.topic(), payload % i, qos)
    await pub.ping()
    return await t.keeper("sub", present=True)


@row(v="45", profile="drop_newest")
async def drop_newest_keeps_the_oldest(t):
    """max_queue_len is 5 here."""
    sub = await waiting(t, 9)
    for i in range(5):
        await sub.message(t.topic(), b"%d" % i, 1)
    await sub.quiet()


@row(v="45", profile="drop_newest")
async def queue_qos0_off(t):
    """QoS 0 is for connected clients only."""
    sub = await waiting(t, 3, qos=0)
    await sub.quiet()
    pub = await t.connect("pub2")
    await pub.publish(t.topic(), b"now")
    await sub.message(t.topic(), b"now", 0)


@row(v="5", profile="small")
async def qos_0_goes_first_when_a_queue_is_full(t):
    """drop_oldest, max_queue_len 10: QoS 1 messages push QoS 0 ones out, not the other way round."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    for i in range(8):
        await pub.publish(t.topic(), b"keep %d" % i, 1)
    for i in range(8):
        await pub.publish(t.topic(), b"go %d" % i, 0)
    await pub.ping()
    for i in range(8, 10):
        await pub.publish(t.topic(), b"keep %d" % i, 1)
    sub = await t.keeper("sub", present=True)
    await asyncio.sleep(0.2)
    got = []
    while len([p for p in got if p.startswith(b"keep")]) < 10:
        got.append((await sub.message(retain=None)).payload)
    kept = [p for p in got if p.startswith(b"keep")]
    check(kept == [b"keep %d" % i for i in range(10)], got)
    await sub.quiet()


@row(v="45", profile="bytes")
async def max_queue_bytes(t):
    """64 KiB here: of twenty messages of 10,000 bytes the newest that fit are kept."""
    sub = await waiting(t, 20, b"%02d" + bytes(9998))
    first = await sub.message(t.topic())
    got = [int(first.payload[:2])]
    while got[-1] != 19:
        got.append(int((await sub.message(t.topic())).payload[:2]))
    check(got == list(range(got[0], 20)) and 4 <= len(got) <= 6, f"kept {got}")
    await sub.quiet()


@row(v="34", profile="retry", phase="timed")
async def retry_interval_of_3x(t):
    """1 s here: an unacknowledged delivery is repeated with DUP in the living connection, until it is acknowledged."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    first = await sub.message(t.topic(), b"x", 1, dup=False, ack=False)
    again = await sub.message(t.topic(), b"x", 1, dup=True, ack=False, timeout=4)
    check(again.pid == first.pid, "another packet identifier")
    await sub.acknowledge(again)
    await sub.quiet(2.5)


@row(v="5", profile="retry", phase="timed", s5="4.4.0-1")
async def no_retry_for_50(t):
    """The standard forbids it, whatever the setting."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    packet = await sub.message(t.topic(), b"x", 1, dup=False, ack=False)
    await sub.quiet(3)
    await sub.acknowledge(packet)
    await sub.ping()


@row(v="5", profile="retained")
async def retained_payload_too_large(t):
    """max_payload is 1 KiB here: delivered to live subscribers, not stored, and what was stored is not left to lie."""
    live = await t.connect("live")
    await live.subscribe(t.topic())
    pub = await t.connect("pub")
    pid = pub.post(t.topic(), b"x" * 1500, 1, retain=True)
    answer = await pub.expect(wire.PUBACK, pid=pid)
    if answer.rc < 0x80:
        await live.message(t.topic(), b"x" * 1500)
    late = await t.connect("late")
    await late.subscribe(t.topic())
    await late.quiet()


@row(v="5", profile="retained", phase="timed")
async def retained_expiry(t):
    """3 s here for retained messages without an expiry of their own. Runs alone with its profile's limits: three
    messages are the most it stores."""
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    await sub.message(t.topic(), b"kept", retain=True)
    await sub.quiet(3.6)
    late = await t.connect("late")
    await late.subscribe(t.topic())
    await late.quiet()
    # The places that expiry freed can be used: three are stored, the fourth is not.
    for i in range(4):
        pid = pub.post(t.topic(f"n{i}"), b"%d" % i, 1, retain=True)
        await pub.expect(wire.PUBACK, pid=pid)
    many = await t.connect("many")
    await many.subscribe(t.topic("+"))
    got = sorted([(await many.message(retain=True)).payload for _ in range(3)])
    check(got == [b"0", b"1", b"2"], got)
    await many.quiet()


# ---- strategies of shared subscriptions ----


async def taken(conns, total):
    """What each of these connections gets, acknowledged, until all together have so many: a list of packets each."""
    got = [[] for _ in conns]
    done = asyncio.Event()

    async def read(conn, mine):
        while True:
            packet = await conn.message()
            mine.append(packet)
            if sum(map(len, got)) >= total:
                done.set()

    tasks = [asyncio.ensure_future(read(conn, mine)) for conn, mine in zip(conns, got)]
    finished = asyncio.ensure_future(done.wait())
    await asyncio.wait([finished, *tasks], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    for task in (*tasks, finished):
        task.cancel()
    check(sum(map(len, got)) == total, f"{[len(g) for g in got]} of {total}")
    for conn in conns:
        await conn.quiet(0.1)
    return got


async def spread(t, publishers=1, topics=1, messages=30):
    """How many messages each of three members got, by publisher and topic: [{(publisher, topic): count}, ...]."""
    members = [await t.connect(f"m{i}") for i in range(3)]
    for member in members:
        await member.subscribe(f"$share/g/{t.topic('+')}", qos=1)
    pubs = [await t.connect(f"p{i}") for i in range(publishers)]
    for i in range(messages):
        for p, pub in enumerate(pubs):
            for topic in range(topics):
                await pub.publish(t.topic(f"t{topic}"), b"%d" % p, 1)
    got = await taken(members, messages * publishers * topics)
    return [collections.Counter((int(p.payload), p.topic) for p in mine) for mine in got]


@row(v="45", profile="shared_random")
async def random_strategy(t):
    counts = [c.total() for c in await spread(t, messages=90)]
    check(min(counts) >= 5, f"not spread: {counts}")


@row(v="45", profile="shared_sticky")
async def sticky_strategy(t):
    """One member as long as it is there, then another."""
    counts = [c.total() for c in await spread(t)]
    check(sorted(counts) == [0, 0, 30], counts)
    first = counts.index(30)
    chosen = next(c for c in t.conns if c.name == f"m{first}")
    await chosen.disconnect()
    pub = await t.connect("later")
    for _ in range(9):
        await pub.publish(t.topic("t0"), b"0", 1)
    got = await taken([c for c in t.conns if c.name in ("m0", "m1", "m2") and c is not chosen], 9)
    check(sorted(map(len, got)) == [0, 9], [len(g) for g in got])


@row(v="45", profile="shared_local")
async def local_strategy(t):
    """On one node all members are local: each in turn."""
    counts = [c.total() for c in await spread(t)]
    check(counts == [10, 10, 10], counts)


@row(v="45", profile="shared_hash_topic")
async def hash_topic_strategy(t):
    """All messages of a topic go to one member; many topics go to several."""
    counts = await spread(t, publishers=2, topics=12, messages=3)
    for topic in range(12):
        served = [m for m, c in enumerate(counts) if any(name == t.topic(f"t{topic}") for _, name in c)]
        check(len(served) == 1, f"t{topic} went to members {served}")
    check(sum(1 for c in counts if c) > 1, "all topics to one member")


@row(v="45", profile="shared_hash_client_id")
async def hash_client_id_strategy(t):
    """All messages of a publisher go to one member; many publishers go to several."""
    counts = await spread(t, publishers=12, topics=2, messages=2)
    for p in range(12):
        served = [m for m, c in enumerate(counts) if any(publisher == p for publisher, _ in c)]
        check(len(served) == 1, f"publisher {p} went to members {served}")
    check(sum(1 for c in counts if c) > 1, "all publishers to one member")


# ---- overrides of a listener ----


@row(v="5", s5="3.2.2-9")
async def listener_overrides_are_told(t):
    """The listener `limited` has its own max_qos, max_packet_size, retain_available and server_keep_alive."""
    told = (await t.connect(listener="tcp:limited")).connack.properties
    want = {"maximum_qos": 0, "maximum_packet_size": 1024, "retain_available": 0, "server_keep_alive": 7}
    check({k: told.get(k) for k in want} == want, told)
    plain = (await t.connect("plain")).connack.properties
    check("maximum_qos" not in plain and plain["maximum_packet_size"] == 1 << 20, plain)


@row(v="5", s5="3.2.2-11 3.2.2-14")
async def listener_overrides_are_kept(t):
    for packet, code in ((wire.publish("a", b"x", 1, 1), 0x9B), (wire.publish("a", b"x", retain=True), 0x9A),
                         (wire.publish("a", bytes(1100)), 0x95)):
        conn = await t.connect(listener="tcp:limited")
        conn.send(packet)
        await conn.expect_end(code)
    conn = await t.connect(listener="tcp:limited")
    await conn.subscribe(t.topic(), qos=2, want=[0])


@row(v="5")
async def a_takeover_loop_is_named_in_the_log_once(t):
    """Two devices with one client identifier: one line with both addresses, not one for each takeover."""
    for i in range(12):
        conn = await t.connect("device", listener="tcp:default")
        await conn.ping()
    await asyncio.sleep(0.3)
    lines = [line for line in t.broker.output().decode(errors="replace").splitlines() if t.cid("device") in line]
    check(len(lines) == 1, f"{len(lines)} lines: {lines[:3]}")
