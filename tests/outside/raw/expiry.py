"""Message expiry: counted down, never added, honoured in queues."""

from rows import check, row


@row(v="5", s5="3.3.2-6", phase="timed")
async def passed_on_at_once(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1, properties={"message_expiry": 100})
    left = (await sub.message(t.topic(), b"x")).properties.get("message_expiry")
    check(left in (99, 100), f"{left} s")


@row(v="5", s5="3.3.2-6", phase="timed")
async def counted_down_while_waiting(t):
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1, properties={"message_expiry": 100})
    await pub.quiet(2.1)
    sub = await t.keeper("sub", present=True)
    left = (await sub.message(t.topic(), b"x")).properties.get("message_expiry")
    check(96 <= left <= 98, f"{left} s left of 100 after 2.1 s")


@row(v="5")
async def none_is_added(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x")
    check("message_expiry" not in (await sub.message(t.topic(), b"x")).properties, "an expiry out of nowhere")


@row(v="5", s5="3.3.2-5", phase="timed")
async def expired_messages_are_not_delivered(t):
    """The others of the queue are, in their order."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    await sub.disconnect()
    pub = await t.connect("pub")
    for i, expiry in enumerate((None, 1, 60, 1, None)):
        await pub.publish(t.topic(), b"%d" % i, 1 + i % 2, properties={"message_expiry": expiry} if expiry else None)
    await pub.quiet(2.2)
    sub = await t.keeper("sub", present=True)
    for i in (0, 2, 4):
        await sub.message(t.topic(), b"%d" % i)
    await sub.quiet()


@row(v="5", s5="3.3.2-5", phase="timed")
async def expired_behind_a_full_window(t):
    """A message that waits for a free place in the window expires there too."""
    sub = await t.connect("sub", properties={"receive_maximum": 1})
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"first", 1)
    await pub.publish(t.topic(), b"short", 1, properties={"message_expiry": 1})
    await pub.publish(t.topic(), b"third", 1)
    first = await sub.message(t.topic(), b"first", ack=False)
    await sub.quiet(2.1)
    await sub.acknowledge(first)
    await sub.message(t.topic(), b"third")
    await sub.quiet()


@row(v="5", s5="3.3.2-5", phase="timed")
async def counts_for_a_3x_subscriber_too(t):
    """It cannot be told, but it is not given an expired message."""
    sub = await t.connect("sub", v=4, clean=False)
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"short", 1, properties={"message_expiry": 1})
    await pub.publish(t.topic(), b"long", 1, properties={"message_expiry": 60})
    await pub.quiet(2.1)
    sub = await t.connect("sub", v=4, clean=False, present=True)
    await sub.message(t.topic(), b"long", 1)
    await sub.quiet()


@row(v="45", profile="times", phase="timed")
async def cap(t):
    """message_expiry is 2 s here: it bounds what publishers ask for and those who ask for nothing."""
    sub = await t.connect("sub", v=5, expiry=2, clean=False, keep_alive=2, properties={"receive_maximum": 1})
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub", keep_alive=60)
    await pub.publish(t.topic(), b"first", 1)
    await pub.publish(t.topic(), b"waits", 1)
    first = await sub.message(t.topic(), b"first", ack=False)
    await sub.quiet(1.5)
    await sub.quiet(1.5)
    await sub.acknowledge(first)
    await sub.quiet()
