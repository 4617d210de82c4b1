"""From MQTT-SN to MQTT and back, unchanged: each version, TCP and WebSocket, each QoS."""

import sn_client as sn
from harness import case, check, expect, receives


def both_ways(t, v, transport):
    watch = t.mqtt("watch", v, transport)
    watch.subscribe(t.topic("up/#"), 2)
    c = t.connected()
    c.subscribe(t.topic("down/+"), qos=2)
    payload = bytes(range(256))
    for qos in (0, 1, 2):
        c.publish(t.topic(f"up/{qos}"), payload + b"%d" % qos, qos=qos)
        got = watch.expect(t.topic(f"up/{qos}"), payload + b"%d" % qos)
        check((got.qos, got.retain) == (qos, False), got)
    for qos in (0, 1, 2):
        watch.publish(t.topic(f"down/{qos}"), payload + b"%d" % qos, qos)
        got = receives(c, t.topic(f"down/{qos}"), payload + b"%d" % qos)
        check((got.qos, got.retain) == (qos, False), got)


@case("6.6-2", "6.10-1")
def mqtt_5_over_websocket_and_back(t):
    both_ways(t, 5, "ws")


@case("6.6-2", "6.10-1")
def mqtt_5_over_tcp_and_back(t):
    both_ways(t, 5, "tcp")


@case("6.6-2", "6.10-1")
def mqtt_3_1_1_over_websocket_and_back(t):
    both_ways(t, 4, "ws")


@case("6.6-2", "6.10-1")
def mqtt_3_1_over_tcp_and_back(t):
    both_ways(t, 3, "tcp")


@case("6.10-1")
def sensor_to_sensor(t):
    a, b = t.connected("a"), t.connected("b")
    b.subscribe(t.topic("#"), qos=2)
    for qos in (0, 1, 2):
        a.publish(t.topic(str(qos)), b"%d" % qos, qos=qos)
        check(receives(b, t.topic(str(qos)), b"%d" % qos).qos == qos, "QoS")


@case("6.10-1")
def a_client_hears_its_own_messages(t):
    c = t.connected()
    c.subscribe(t.topic(), qos=1)
    c.publish(t.topic(), b"echo", qos=1)
    receives(c, t.topic(), b"echo")


@case("6.10-1")
def properties_of_mqtt_5_are_left_behind(t):
    c = t.connected()
    c.subscribe(t.topic(), qos=1)
    t.mqtt(v=5).publish(t.topic(), b"plain", 1, properties={
        "content_type": "text/plain", "user_property": [("a", "b")], "response_topic": "r", "message_expiry": 60})
    receives(c, t.topic(), b"plain")


@case("6.14-1", slow=True)
def an_expired_message_does_not_wait_for_a_sleeper(t):
    c = t.connected(clean=False)
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    m = t.mqtt(v=5)
    m.publish(t.topic(), b"expires", 1, properties={"message_expiry": 1})
    m.publish(t.topic(), b"stays", 1)
    import time

    time.sleep(2.2)
    check([one.data for one in c.wake()] == [b"stays"], "the buffer")


@case("6.3-1", "6.11-3", slow=True)
def a_will_reaches_mqtt_over_websocket(t):
    watch = t.mqtt("watch", 5, "ws")
    watch.subscribe(t.topic("will"), 2)
    c = t.connected(duration=1, will=sn.Will(t.topic("will"), b"gone", 2))
    c.close()
    check(watch.expect(t.topic("will"), b"gone").qos == 2, "QoS")


@case("6.14-2")
def under_loss_all_qos_1_messages_arrive(t):
    """A third of the datagrams lost each way, repeats on both ends."""
    faults = sn.Faults(drop_sent=0.3, drop_received=0.3, duplicate_sent=0.2, seed=t.number)
    c = t.client(listener="quick", t_retry=0.3, n_retry=30)
    c.connect(clean=False, duration=300)
    c.subscribe(t.topic("down"), qos=2)
    c.register(t.topic("up"))
    watch = t.watcher(t.topic("up"))
    c.faults = faults
    for i in range(15):
        c.publish(t.topic("up"), b"%d" % i, qos=1 + i % 2)
    c.faults = sn.Faults()
    got = [int(payload) for _, payload in watch.messages(0.8)]
    check(sorted(set(got)) == list(range(15)), got)
    twice = [i for i in range(1, 15, 2) if got.count(i) > 1]
    check(not twice, f"QoS 2 messages twice: {twice}")
    c.ping()
