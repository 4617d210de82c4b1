"""CONNECT, identity of clients, keep alive, DISCONNECT (sections 5.3.1, 6.2, 6.3, 6.11, 6.12)."""

import time

import sn_client as sn
from harness import case, check, expect, quiet, receives, refused
from sn_client import Will


@case("6.2-1", "5.4.4-2")
def without_will(t):
    c = t.client()
    c.connect()
    check([m.type for d, m in c.trace if d == "received"] == [sn.CONNACK], c.trace)


@case("6.2-2", "5.4.4-2")
def with_will(t):
    c = t.client()
    c.connect(will=Will(t.topic("will"), b"gone", 1))
    seen = [m.type for d, m in c.trace if d == "received"]
    check(seen == [sn.WILLTOPICREQ, sn.WILLMSGREQ, sn.CONNACK], seen)


@case("6.2-3", "5.4.7-2", slow=True)
def an_empty_will_topic_ends_the_handshake_and_deletes_the_will(t):
    watch = t.watcher(t.topic("will"))
    c = t.connected(clean=False, will=Will(t.topic("will"), b"gone"))
    c.disconnect()
    c.trace.clear()
    c.connect(clean=False, empty_will=True, duration=1)
    seen = [m.type for d, m in c.trace if d == "received"]
    check(seen == [sn.WILLTOPICREQ, sn.CONNACK], seen)
    time.sleep(2.5)
    check(not watch.messages(), "the deleted will fired")


@case("5.3.8-1")
def another_protocol_id_is_not_supported(t):
    refused(sn.NOT_SUPPORTED, t.client().connect, protocol_id=2)


@case("6.2-5", profile="auth")
def authentication_that_is_down_is_congestion(t):
    refused(sn.CONGESTION, t.client("broken").connect)


@case("5.3.10-2")
def the_gateway_sends_no_return_code_but_0_to_3(t):
    c = t.client(listener="few")
    refused(sn.NOT_SUPPORTED, c.connect, protocol_id=7)
    c.connect(will=Will(t.topic("w"), b""))
    for what, *words in ((c.subscribe, "denied/t"), (c.subscribe, "a/#/b"), (c.register, "a/+"), (c.register, ""),
                         (c.publish, 999, b"", 1), (c.update_will_topic, Will("denied/w", b"")),
                         (c.subscribe, sn.Predefined(77))):
        try:
            what(*words)
        except sn.Refused:
            continue
        raise AssertionError(f"{what.__name__}{words} was accepted")
    codes = {m.code for d, m in c.trace if d == "received" and "code" in m.fields}
    check(codes <= {0, 1, 2, 3}, codes)


@case("5.3.1-1")
def a_client_id_of_more_than_23_characters_passes_unless_strict(t):
    long_id = t.id("long") + "x" * 200
    t.client(client_id=long_id).connect()
    refused(sn.NOT_SUPPORTED, t.client(listener="strict", client_id="y" * 24).connect)
    t.client(listener="strict", client_id=t.id("y").ljust(23, "z")).connect()


@case("5.3.1-1")
def an_empty_client_id_needs_a_clean_session(t):
    c = t.client(client_id="")
    c.connect(clean=True)
    c.subscribe(t.topic(), qos=1)
    other = t.client(client_id="")
    other.connect(clean=True)
    t.mqtt().publish(t.topic(), b"mine", 1)
    receives(c, t.topic(), b"mine")
    quiet(other)
    refused(sn.NOT_SUPPORTED, t.client(client_id="").connect, clean=False)


@case("5.3.1-2")
def a_second_client_of_the_same_id_takes_the_session_over(t):
    first = t.connected(clean=False)
    first.subscribe(t.topic(), qos=1)
    second = t.client(host=2)
    second.connect(clean=False)
    t.mqtt().publish(t.topic(), b"for the second", 1)
    receives(second, t.topic(), b"for the second")
    while (message := first.next_message(0.3)) is not None:
        check(message.type == sn.DISCONNECT, message)
    first.send(sn.pingreq())
    answer = expect(first, sn.DISCONNECT)
    check(answer.duration is None, answer)


@case("4.1-1")
def an_mqtt_client_of_the_same_id_takes_the_session_over(t):
    """One space of client ids: the queue of the sensor is what the MQTT client gets."""
    c = t.connected(clean=False)
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    t.mqtt().publish(t.topic(), b"kept", 1)
    peer = t.mqtt("c", v=4, clean=False)
    check(peer.connack.session_present, "no session")
    peer.expect(t.topic(), b"kept")


@case("4.1-1")
def each_client_has_its_own_session(t):
    a, b = t.connected("a"), t.connected("b")
    a.subscribe(t.topic("a"), qos=1)
    b.subscribe(t.topic("b"), qos=1)
    m = t.mqtt()
    m.publish(t.topic("b"), b"b", 1)
    m.publish(t.topic("a"), b"a", 1)
    receives(a, t.topic("a"), b"a")
    receives(b, t.topic("b"), b"b")
    quiet(a)
    quiet(b)


@case("4.2-1", profile="own", slow=True)
def no_socket_or_thread_for_each_client(t):
    import os

    from harness import listener, running

    with running(t.binary, listener("default", 'new_sessions_per_source = "off"\n')) as broker:
        def used():
            pid = broker.process.pid
            return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

        first = t.client("first", broker=broker)
        first.connect()
        before = used()
        for i in range(100):
            t.client(f"n{i}", broker=broker).connect()
        after = used()
        check(after[0] <= before[0] + 4 and after[1] <= before[1] + 4, f"files and threads: {before}, then {after}")


@case("6.3-1", slow=True)
def clean_session_1_will_1(t):
    """Subscriptions and will are deleted, a new will is asked for."""
    old, new = t.watcher(t.topic("old"), who="wo"), t.watcher(t.topic("new"), who="wn")
    c = t.connected(clean=False, will=Will(t.topic("old"), b"old"))
    c.subscribe(t.topic(), qos=1)
    c.disconnect()
    c.trace.clear()
    c.connect(clean=True, duration=1, will=Will(t.topic("new"), b"new"))
    check(c.received(sn.WILLTOPICREQ), "no prompt")
    t.mqtt().publish(t.topic(), b"nobody", 1)
    quiet(c)
    new.expect(t.topic("new"), b"new")
    check(not old.messages(), "the old will fired")


@case("6.3-2", slow=True)
def clean_session_1_will_0(t):
    """Subscriptions and will are deleted, none is asked for."""
    watch = t.watcher(t.topic("will"))
    c = t.connected(clean=False, will=Will(t.topic("will"), b"old"))
    c.subscribe(t.topic(), qos=1)
    c.disconnect()
    c.trace.clear()
    c.connect(clean=True, duration=1)
    check(not c.received(sn.WILLTOPICREQ), "a prompt")
    t.mqtt().publish(t.topic(), b"nobody", 1)
    quiet(c)
    time.sleep(2.2)
    check(not watch.messages(), "the deleted will fired")


@case("6.3-3", slow=True)
def clean_session_0_will_1(t):
    """Subscriptions stay, the will is asked for and replaced."""
    old, new = t.watcher(t.topic("old"), who="wo"), t.watcher(t.topic("new"), who="wn")
    c = t.connected(clean=False, will=Will(t.topic("old"), b"old"))
    c.subscribe(t.topic(), qos=1)
    c.disconnect()
    c.connect(clean=False, duration=1, will=Will(t.topic("new"), b"new"))
    t.mqtt().publish(t.topic(), b"kept", 1)
    receives(c, t.topic(), b"kept")
    new.expect(t.topic("new"), b"new")
    check(not old.messages(), "the old will fired")


@case("6.3-4", slow=True)
def clean_session_0_will_0(t):
    """Subscriptions and will stay."""
    watch = t.watcher(t.topic("will"))
    c = t.connected(clean=False, will=Will(t.topic("will"), b"kept"))
    c.subscribe(t.topic(), qos=1)
    c.disconnect()
    c.trace.clear()
    c.connect(clean=False, duration=1)
    check(not c.received(sn.WILLTOPICREQ), "a prompt")
    t.mqtt().publish(t.topic(), b"kept", 1)
    receives(c, t.topic(), b"kept")
    watch.expect(t.topic("will"), b"kept")
    check(not watch.messages(), "the will came twice")


@case("6.3-4", slow=True)
def a_new_connect_fires_no_will(t):
    """It is no loss: neither from active nor from asleep, whatever its flags."""
    watch = t.watcher(t.topic("will"))
    c = t.connected(clean=False, will=Will(t.topic("will"), b"kept"))
    for clean, how in ((False, {}), (False, {"will": Will(t.topic("will"), b"second")}), (True, {}), (False, {})):
        c.ping()
        time.sleep(2.1)
        c.connect(clean=clean, duration=100, **how)
    c.sleep(60)
    c.connect(clean=True, duration=99)
    check(not watch.messages(), "a will fired")


@case("6.11-1")
def pingreq_is_answered(t):
    c = t.connected()
    c.ping()
    c.send(sn.pingreq(t.id("c")))
    expect(c, sn.PINGRESP)
    # With its client id an active client stays active.
    c.subscribe(t.topic(), qos=0)
    t.mqtt().publish(t.topic(), b"at once")
    receives(c, t.topic(), b"at once")


@case("6.11-2", slow=True)
def any_message_counts_for_keep_alive(t):
    """1 s and half of it; 4 s long something is sent each second, and never PINGREQ."""
    watch = t.watcher(t.topic("will"))
    c = t.connected(duration=1, will=Will(t.topic("will"), b"gone"))
    topic_id = c.register(t.topic())
    for send in (lambda: c.send(sn.publish(topic_id, b"x")), lambda: c.register(t.topic("r")),
                 lambda: c.subscribe(t.topic("s")), lambda: c.publish(topic_id, b"x", 1),
                 lambda: c.send(sn.ack(sn.PUBACK, 1, 1, 0)), lambda: c.unsubscribe(t.topic("s"))):
        time.sleep(0.75)
        send()
    check(not watch.messages(0.2), "lost though it sent")
    watch.expect(t.topic("will"), b"gone")


@case("6.11-3", slow=True)
def without_keep_alive_a_silent_client_stays(t):
    watch = t.watcher(t.topic("will"))
    c = t.connected(duration=0, will=Will(t.topic("will"), b"gone"))
    time.sleep(3)
    check(not watch.messages(), "lost without a keep alive")
    c.ping()


@case("6.12-1", "5.4.21-2")
def disconnect_is_answered_without_duration(t):
    c = t.connected()
    c.send(sn.disconnect())
    check(expect(c, sn.DISCONNECT).duration is None, "a duration")
    # A repeat, as after a lost answer, is answered too.
    c.send(sn.disconnect())
    check(expect(c, sn.DISCONNECT).duration is None, "a duration")


@case("6.12-2")
def what_is_kept_over_disconnect(t):
    c = t.connected(clean=False)
    c.subscribe(t.topic(), qos=2)
    c.disconnect()
    m = t.mqtt()
    for i in range(5):
        m.publish(t.topic(), b"%d" % i, 1 + i % 2)
    c.connect(clean=False)
    for i in range(5):
        receives(c, t.topic(), b"%d" % i)


@case("6.12-3")
def a_message_after_disconnect_belongs_to_nobody(t):
    c = t.connected()
    topic_id = c.register(t.topic())
    c.disconnect()
    c.send(sn.publish(topic_id, b"x", qos=1, msg_id=4))
    expect(c, sn.DISCONNECT)
