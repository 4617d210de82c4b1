"""Caps: sessions of a source and of a listener, the buffer of a sleeper, topic ids."""

import sn_client as sn
from harness import case, check, quiet, receives, refused


@case("6.2-5")
def new_sessions_of_one_source_are_limited(t):
    """3 in a second here; more are congestion or nothing, and nothing of them is kept."""
    codes = []
    for i in range(20):
        stranger = t.stranger("slow_door")
        answer = stranger.ask(sn.connect(t.id(f"s{i}")), 0.1)
        codes.append(None if answer is None else answer.code)
    check(codes[0] == 0, codes)
    check(codes.count(0) <= 9, codes)
    check(set(codes) <= {0, sn.CONGESTION, None}, codes)


@case("6.2-5")
def the_sessions_of_a_listener_are_limited(t):
    """max_connections is 1 here."""
    c = t.connected("a", listener="one")
    refused(sn.CONGESTION, t.client("b", listener="one").connect)
    c.disconnect()
    t.client("b", listener="one").connect()


@case("6.14-1")
def the_buffer_is_bounded_in_messages(t):
    """buffer_messages is 5 here: the oldest go."""
    c = t.connected(listener="buffer", clean=False)
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    m = t.mqtt()
    for i in range(12):
        m.publish(t.topic(), b"%d" % i, 1)
    got = [int(one.data) for one in c.wake()]
    check(got == list(range(7, 12)), got)


@case("6.14-1")
def the_buffer_is_bounded_in_bytes(t):
    """256 KiB by default."""
    c = t.connected(clean=False)
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    m = t.mqtt()
    for i in range(400):
        m.publish(t.topic(), b"%d " % i + bytes(1000), 1)
    got = [int(one.data.split()[0]) for one in c.wake(60)]
    check(got and got == list(range(got[0], 400)), got)
    check(150 <= len(got) <= 262, f"{len(got)} of 400 kept")


@case("6.14-1")
def drops_are_counted_with_a_reason(t):
    def dropped():
        return sum(value for name, value in t.counters().items() if "drop" in name)

    c = t.connected(listener="buffer", clean=False)
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    before = dropped()
    m = t.mqtt()
    for i in range(30):
        m.publish(t.topic(), b"%d" % i, 1)
    check(dropped() - before >= 25, "not counted")


@case("6.10-4")
def a_full_window_of_one_client_does_not_hold_up_another(t):
    slow, fast, m = t.connected("slow"), t.connected("fast"), t.mqtt()
    slow.subscribe(t.topic(), qos=1)
    fast.subscribe(t.topic(), qos=1)
    for i in range(100):
        m.publish(t.topic(), b"%d" % i, 1)
    for i in range(100):
        receives(fast, t.topic(), b"%d" % i)
    quiet(fast)
    for i in range(100):
        receives(slow, t.topic(), b"%d" % i)
