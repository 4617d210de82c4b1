"""Many MQTT-SN clients of one address in one thread: each connects, reports by PUBLISH of QoS 1, and connects again when
its gateway forgot it or falls silent, as the standard tells a client to (6.13: retransmission; 6.8: a DISCONNECT). A
CONNECT that was not answered is tried again from a new socket, so that a proxy may choose another gateway.
"""

import selectors
import socket
import time

import sn_client as sn
from blocking import check

# Retransmission as sensors do it, somewhat faster than the standard's 10 to 15 s so that a test ends.
RETRY, RETRIES = 1.5, 3
# Seconds between two reports.
EVERY = 4.0
COUNT = 1000
REPORT = sn.Short(b"rp")


class Sensor:
    """One socket. `state` is "connecting", "reporting" (a PUBLISH waits for its PUBACK) or "resting"."""

    def __init__(self, number, address, selector):
        self.id = f"fleet-{number:04}"
        self.address, self.selector, self.socket = address, selector, None
        self.open()
        self.state, self.tries, self.msg_id, self.due = "connecting", 0, 0, 0.0
        self.connected = self.acknowledged = 0.0
        # When the report that waits was first sent.
        self.begun = 0.0
        self.fresh = True

    def open(self):
        """A new socket, and so a new source port."""
        if self.socket:
            self.selector.unregister(self.socket)
            self.socket.close()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(self.address)
        self.selector.register(self.socket, selectors.EVENT_READ, self)

    def send(self, datagram):
        try:
            self.socket.send(datagram)
        except OSError:
            # The ICMP answer to the datagram before, or a full buffer: sent again when it is due.
            pass

    def act(self, now):
        """What is due at this time; sets the next one."""
        if self.state == "resting":
            self.state, self.tries, self.begun = "reporting", 0, now
            self.msg_id = self.msg_id % 65535 + 1
        elif self.tries >= RETRIES and self.state == "reporting":
            self.state, self.tries = "connecting", 0
        if self.state == "connecting":
            if self.tries:
                self.open()
            self.send(sn.connect(self.id, clean=self.fresh, duration=60))
        else:
            self.send(sn.publish(REPORT, self.id.encode(), qos=1, msg_id=self.msg_id, dup=self.tries > 0))
        self.tries += 1
        self.due = now + RETRY

    def take(self, datagram, now):
        message = sn.decode(datagram)
        if message.type == sn.CONNACK and self.state == "connecting":
            if message.code == sn.ACCEPTED:
                self.connected, self.fresh = now, False
                # Reports are spread, as those of sensors are.
                self.state, self.due = "resting", now + EVERY * (hash(self.id) % 1000) / 1000
            else:
                self.due = now + RETRY
        elif message.type == sn.PUBACK and self.state == "reporting" and message.msg_id == self.msg_id:
            if message.code == sn.ACCEPTED:
                self.acknowledged = now
                self.state, self.due = "resting", now + EVERY
            else:
                self.due = now + RETRY
        elif message.type == sn.DISCONNECT:
            self.state, self.tries, self.due = "connecting", 0, now
        elif message.type == sn.PINGREQ:
            self.send(sn.pack(sn.PINGRESP))
        elif message.type == sn.REGISTER:
            self.send(sn.ack(sn.REGACK, message.topic_id, message.msg_id, sn.ACCEPTED))


class Fleet:
    """So many sensors towards one address."""

    def __init__(self, host, port, count):
        self.selector = selectors.DefaultSelector()
        self.sensors = [Sensor(number, (host, port), self.selector) for number in range(count)]
        begin = time.monotonic()
        for at, sensor in enumerate(self.sensors):
            # The first datagrams are spread over a second.
            sensor.due = begin + at / count

    def run(self, until, seconds):
        """Goes on until `until(sensor)` holds for all; how long that took, None if it was too long."""
        begin = time.monotonic()
        while True:
            now = time.monotonic()
            if all(map(until, self.sensors)):
                return now - begin
            if now - begin > seconds:
                return None
            for sensor in self.sensors:
                if sensor.due <= now:
                    sensor.act(now)
            pause = now + 0.05
            while (now := time.monotonic()) < pause:
                for key, _ in self.selector.select(pause - now):
                    self._take(key.data)

    @staticmethod
    def _take(sensor):
        try:
            while True:
                datagram = sensor.socket.recv(2048)
                # NGINX sends an empty one where it loses the node behind.
                if datagram:
                    sensor.take(datagram, time.monotonic())
        except OSError:
            # Nothing more, or an ICMP answer.
            return

    def missing(self, until):
        """Ids and states of those for whom it does not hold."""
        return [(sensor.id, sensor.state, sensor.tries) for sensor in self.sensors if not until(sensor)][:5]

    def close(self):
        self.selector.close()
        for sensor in self.sensors:
            sensor.socket.close()


def recover(port, kill, within):
    """Connects the sensors, kills a node, waits until each has an acknowledgement of a report made after that."""
    fleet = Fleet("127.0.0.1", port, COUNT)
    try:
        reported = lambda sensor: sensor.acknowledged > 0  # noqa: E731
        took = fleet.run(reported, 90)
        check(took is not None, f"not all reported at first: {fleet.missing(reported)}")
        begin = time.monotonic()
        kill()
        again = lambda sensor: sensor.begun > begin and sensor.acknowledged > begin  # noqa: E731
        back = fleet.run(again, within)
        check(back is not None, f"not all reported within {within:g} s of the kill: {fleet.missing(again)}")
        moved = sum(sensor.connected > begin for sensor in fleet.sensors)
        print(f"      {COUNT} sensors: all reported {took:.1f} s after the first CONNECT; a node killed: all reported again after "
              f"{time.monotonic() - begin:.1f} s, {moved} by another node", flush=True)
        check(moved > COUNT / 6, f"only {moved} sensors were on the node that was killed")
        return back
    finally:
        fleet.close()
