"""paho-mqtt 2, with its network thread."""

import queue

from .base import WAIT, Client, Failed, Message, Unavailable

try:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError:
    paho = None


class PahoClient(Client):
    name = "paho"

    @classmethod
    def start(cls):
        if paho is None:
            raise Unavailable("Python package paho-mqtt is not installed")

    def connect(self, clean=True, expiry=0, will=None):
        protocol = {3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}[self.version]
        transport = "websockets" if "ws" in self.transport else "tcp"
        options = {} if self.version == 5 else {"clean_session": clean}
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=protocol,
                                  transport=transport, reconnect_on_failure=False, **options)
        if self.transport in ("tls", "wss"):
            self.client.tls_set(ca_certs=str(self.broker.ca_file()))
        if will:
            self.client.will_set(will.topic, will.payload, will.qos, will.retain)
        self.inbox, self.connack, self.subacks = queue.Queue(), queue.Queue(), queue.Queue()
        self.client.on_connect = lambda _c, _u, flags, rc, _p: self.connack.put((flags, rc))
        self.client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.subacks.put(codes)
        self.client.on_message = lambda _c, _u, m: self.inbox.put(m)
        more = {}
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry
            more = {"clean_start": clean, "properties": properties}
        self.client.connect("localhost", self.broker.port(self.transport), keepalive=60, **more)
        self.client.loop_start()
        flags, code = self._take(self.connack, "CONNACK")
        if code.is_failure:
            raise Failed(f"refused: {code}")
        return flags.session_present

    @staticmethod
    def _take(where, what, timeout=WAIT):
        try:
            return where.get(timeout=timeout)
        except queue.Empty:
            raise Failed(f"no {what} within {timeout:g} s") from None

    def subscribe(self, topic_filter, qos=0):
        self.client.subscribe(topic_filter, qos)
        codes = self._take(self.subacks, "SUBACK")
        if any(code.is_failure for code in codes):
            raise Failed(f"{topic_filter}: refused: {codes}")

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        given = None
        if properties:
            given = Properties(PacketTypes.PUBLISH)
            given.ContentType = properties["content_type"]
            given.UserProperty = properties["user_property"]
        info = self.client.publish(topic, payload, qos, retain, given)
        info.wait_for_publish(WAIT)
        if not info.is_published():
            raise Failed(f"QoS {qos} was not acknowledged within {WAIT:g} s")

    def receive(self, timeout=WAIT):
        m = self._take(self.inbox, "message", timeout)
        properties = {}
        if self.version == 5 and m.properties is not None:
            told = m.properties.json()
            properties = {"content_type": told.get("ContentType"),
                          "user_property": [tuple(pair) for pair in told.get("UserProperty", [])]}
        return Message(m.topic, m.payload.decode(), m.qos, m.retain, properties)

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()

    def kill(self):
        sock = self.client.socket()
        if sock is not None:
            sock.close()
        self.client.loop_stop()
