"""PUBLISH from a publisher to subscribers: QoS, order, payloads, what reaches whom."""

import asyncio

import wire
from rows import check, row


@row(v="345", s4="3.3.4-1 3.8.4-6 4.3.1-1 4.5.0-1 3.3.2-3 2.3.1-5",
     s5="3.3.4-1 3.8.4-8 4.3.3-2 4.3.1-1 4.5.0-1 3.3.2-3 2.2.1-2")
async def delivered_qos_is_the_lower_one(t):
    """All nine pairs of published and granted QoS."""
    subs = []
    for granted in (0, 1, 2):
        sub = await t.connect(f"s{granted}")
        await sub.subscribe(t.topic(), qos=granted)
        subs.append((granted, sub))
    pub = await t.connect("pub")
    for published in (0, 1, 2):
        payload = f"at {published}".encode()
        await pub.publish(t.topic(), payload, published)
        for granted, sub in subs:
            await sub.message(t.topic(), payload, min(published, granted))


@row(v="345", s4="3.3.4-1 4.3.2-2 2.3.1-6", s5="3.3.4-1 4.3.2-4 2.2.1-5 3.4.2-1")
async def qos_1_gets_puback(t):
    conn = await t.connect()
    for pid in (1, 77, 65535):
        conn.post(t.topic(), b"x", 1, pid)
        await conn.expect(wire.PUBACK, pid=pid, rc=(0, 0x10))


@row(v="345", s4="3.3.4-1 4.3.3-2 2.3.1-6", s5="3.3.4-1 4.3.3-8 4.3.3-11 2.2.1-5 3.5.2-1 3.7.2-1")
async def qos_2_gets_pubrec_and_pubcomp(t):
    conn = await t.connect()
    for pid in (1, 77, 65535):
        conn.post(t.topic(), b"x", 2, pid)
        await conn.expect(wire.PUBREC, pid=pid, rc=(0, 0x10))
        conn.send(wire.ack(wire.PUBREL, pid))
        await conn.expect(wire.PUBCOMP, pid=pid, rc=0)


@row(v="345", s4="4.3.2-2", s5="4.3.2-5")
async def packet_id_free_after_puback(t):
    """The same identifier after PUBACK is a new message, with DUP or without."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i, dup in enumerate((False, False, True)):
        pub.post(t.topic(), b"%d" % i, 1, 9, dup=dup)
        await pub.expect(wire.PUBACK, pid=9)
        await sub.message(t.topic(), b"%d" % i, 1)


@row(v="345", s4="4.3.3-2", s5="4.3.3-12")
async def packet_id_free_after_pubcomp(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    for i in range(3):
        pub.post(t.topic(), b"%d" % i, 2, 9)
        await pub.expect(wire.PUBREC, pid=9)
        pub.send(wire.ack(wire.PUBREL, 9))
        await pub.expect(wire.PUBCOMP, pid=9)
        await sub.message(t.topic(), b"%d" % i, 2)


@row(v="345", s4="4.3.3-2", s5="4.3.3-10")
async def qos_2_repeated_before_pubrel_is_delivered_once(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    pub.post(t.topic(), b"once", 2, 5)
    await pub.expect(wire.PUBREC, pid=5)
    for _ in range(3):
        pub.post(t.topic(), b"once", 2, 5, dup=True)
        await pub.expect(wire.PUBREC, pid=5)
    pub.send(wire.ack(wire.PUBREL, 5))
    await pub.expect(wire.PUBCOMP, pid=5)
    await sub.message(t.topic(), b"once", 2)
    await sub.quiet()


@row(v="345", s4="3.3.1-3", s5="3.3.1-3 4.3.2-2")
async def dup_is_not_passed_on(t):
    """DUP towards subscribers says whether that packet is a repetition, not what the publisher set."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    pub.post(t.topic(), b"again", 1, 3, dup=True)
    await pub.expect(wire.PUBACK, pid=3)
    await sub.message(t.topic(), b"again", 1, dup=False)


@row(v="345", s4="4.6.0-5 4.6.0-6 4.6.0-2 4.6.0-3", s5="4.6.0-5 4.6.0-6 4.6.0-2 4.6.0-3")
async def order_per_qos(t):
    """Messages of one publisher on one topic at one QoS arrive in their order, and the answers leave in it."""
    for qos in (0, 1, 2):
        sub = await t.connect(f"sub{qos}")
        await sub.subscribe(t.topic(qos_name := f"q{qos}"), qos=qos)
        pub = await t.connect(f"pub{qos}")
        pids = [pub.post(t.topic(qos_name), b"%d" % i, qos) for i in range(30)]
        if qos == 1:
            for pid in pids:
                await pub.expect(wire.PUBACK, pid=pid)
        if qos == 2:
            for pid in pids:
                await pub.expect(wire.PUBREC, pid=pid)
                pub.send(wire.ack(wire.PUBREL, pid))
            for pid in pids:
                await pub.expect(wire.PUBCOMP, pid=pid)
        got, released = [], []
        while len(got) < 30:
            packet = await sub.recv()
            if packet.kind == wire.PUBLISH:
                got.append(packet.payload)
                if qos:
                    sub.send(wire.ack(wire.PUBACK if qos == 1 else wire.PUBREC, packet.pid))
            else:
                released.append(packet.pid)
                sub.send(wire.ack(wire.PUBCOMP, packet.pid))
        check(got == [b"%d" % i for i in range(30)], f"QoS {qos}: order {got}")


@row(v="345", s4="4.6.0-4", s5="4.6.0-4")
async def pubrel_in_the_order_of_pubrec(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    for i in range(8):
        await pub.publish(t.topic(), b"%d" % i, 2)
    pids = [(await sub.message(ack=False)).pid for _ in range(8)]
    for pid in reversed(pids):
        sub.send(wire.ack(wire.PUBREC, pid))
    for pid in reversed(pids):
        await sub.expect(wire.PUBREL, pid=pid)
        sub.send(wire.ack(wire.PUBCOMP, pid))
    await sub.ping()


@row(v="345")
async def payloads(t):
    """Empty, binary, and large enough for every form of the remaining length that the limit allows."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for payload in (b"", b"\0", bytes(range(256)), b"x" * 127, b"x" * 128, b"x" * 16383, b"x" * 16400, b"x" * 300000):
        await pub.publish(t.topic(), payload, 1)
        await sub.message(t.topic(), payload, 1)


@row(v="345", s4="4.5.0-1", s5="4.5.0-1 3.4.2-1 3.5.2-1")
async def no_subscriber(t):
    """Acknowledged all the same; 5.0 may say that nobody listens (0x10)."""
    pub = await t.connect()
    await pub.publish(t.topic(), b"x", 1)
    await pub.publish(t.topic(), b"x", 2)


@row(v="345")
async def own_messages_come_back(t):
    """A client that subscribes to what it publishes gets it (no local is not set)."""
    conn = await t.connect()
    await conn.subscribe(t.topic(), qos=0)
    conn.post(t.topic(), b"mine")
    await conn.message(t.topic(), b"mine", 0)


@row(v="345", s4="4.3.3-1 2.3.1-4 4.3.2-1", s5="2.2.1-4 4.3.3-1 4.3.2-1")
async def packet_ids_of_the_server_are_unused_ones(t):
    """While deliveries are unacknowledged no identifier is given twice, and none is 0."""
    sub = await t.connect("sub")
    await sub.subscribe((t.topic("one"), 1), (t.topic("two"), 2))
    pub = await t.connect("pub")
    for i in range(10):
        await pub.publish(t.topic("one"), b"%d" % i, 1)
        await pub.publish(t.topic("two"), b"%d" % i, 2)
    pids = [(await sub.message(ack=False)).pid for _ in range(20)]
    check(len(set(pids)) == 20 and 0 not in pids, f"packet identifiers {pids}")


@row(v="345")
async def between_versions(t):
    """A message crosses from each version to each other unchanged."""
    subs = [await t.connect(f"s{v}", v=v) for v in (3, 4, 5)]
    for sub in subs:
        await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    for qos in (0, 1, 2):
        await pub.publish(t.topic(), b"to all", qos)
        for sub in subs:
            await sub.message(t.topic(), b"to all", qos)


@row(v="45")
async def ten_thousand_as_fast_as_possible(t):
    """QoS 1 without a pause to a subscriber that reads: none lost, none out of order."""
    total = 10000
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")

    async def receive():
        for i in range(total):
            packet = await sub.message(t.topic(), b"%d" % i, 1, ack=False, timeout=30)
            sub.send(wire.ack(wire.PUBACK, packet.pid))

    async def send():
        window = asyncio.Semaphore(50)

        async def acks():
            for _ in range(total):
                await pub.expect(wire.PUBACK, 30, rc=(0, 0x10))
                window.release()

        reader = asyncio.ensure_future(acks())
        for i in range(total):
            await window.acquire()
            pub.post(t.topic(), b"%d" % i, 1, i % 60000 + 1)
            if i % 50 == 0:
                await pub.writer.drain()
        await reader

    await asyncio.gather(receive(), send())
