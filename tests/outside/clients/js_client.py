"""MQTT.js in Node and in Chromium, driven through lines of JSON (tests/outside/js)."""

import itertools
import json
import os
import pathlib
import queue
import shutil
import subprocess
import threading

from .base import WAIT, Client, Failed, Message, Unavailable

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOLDER = pathlib.Path(os.environ.get("TEST_NODE_DIR") or ROOT / "target" / "test-node")


class Driver:
    """A Node process that answers calls, many under way at once."""

    def __init__(self, script, log):
        self.log = open(log, "wb")
        self.process = subprocess.Popen(["node", str(FOLDER / script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, cwd=FOLDER)
        self.ids, self.open, self.lock = itertools.count(), {}, threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            self.open.pop(answer["id"]).put(answer)
        for waiting in list(self.open.values()):
            waiting.put({"error": "the driver ended"})

    def call(self, op, *args, timeout=30):
        answers = queue.Queue()
        with self.lock:
            number = next(self.ids)
            self.open[number] = answers
            self.process.stdin.write(json.dumps({"id": number, "op": op, "args": args}).encode() + b"\n")
            self.process.stdin.flush()
        try:
            answer = answers.get(timeout=timeout)
        except queue.Empty:
            raise Failed(f"{op}: the driver did not answer within {timeout} s") from None
        if "error" in answer:
            raise Failed(f"{op}: {answer['error']}")
        return answer["value"]

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class MqttJsClient(Client):
    name = "mqttjs-node"
    script = "node.js"
    driver = None
    scheme = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}

    @classmethod
    def start(cls):
        if shutil.which("node") is None:
            raise Unavailable("node is not installed (20.19 or newer)")
        if not (FOLDER / "node_modules" / "mqtt").is_dir():
            raise Unavailable(f"npm packages are not installed under {FOLDER}")
        cls.driver = Driver(cls.script, FOLDER / f"{cls.script}.log")

    @classmethod
    def stop(cls):
        if cls.driver is not None:
            cls.driver.stop()

    def connect(self, clean=True, expiry=0, will=None):
        path = "/mqtt" if "ws" in self.transport else ""
        url = f"{self.scheme[self.transport]}://localhost:{self.broker.port(self.transport)}{path}"
        options = {"clientId": self.client_id, "clean": clean, "protocolVersion": self.version, "keepalive": 60}
        if self.version == 3:
            options["protocolId"] = "MQIsdp"
        if self.version == 5:
            options["properties"] = {"sessionExpiryInterval": expiry}
        if self.transport in ("tls", "wss"):
            options["ca"] = self.broker.ca_file().read_text()
        if will:
            options["will"] = {"topic": will.topic, "payload": will.payload, "qos": will.qos, "retain": will.retain}
        return self.driver.call("connect", self.client_id, url, options)["present"]

    def subscribe(self, topic_filter, qos=0):
        granted = self.driver.call("subscribe", self.client_id, topic_filter, {"qos": qos})
        if granted != [qos]:
            raise Failed(f"{topic_filter}: granted {granted}")

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        options = {"qos": qos, "retain": retain}
        if properties:
            pairs = {}
            for key, value in properties["user_property"]:
                pairs.setdefault(key, []).append(value)
            options["properties"] = {"contentType": properties["content_type"], "userProperties": pairs}
        self.driver.call("publish", self.client_id, topic, payload, options)

    def receive(self, timeout=WAIT):
        m = self.driver.call("receive", self.client_id, timeout)
        told = m["properties"]
        pairs = [(key, value) for key, values in told.get("userProperties", {}).items()
                 for value in (values if isinstance(values, list) else [values])]
        return Message(m["topic"], m["payload"], m["qos"], m["retain"],
                       {"content_type": told.get("contentType"), "user_property": pairs})

    def disconnect(self):
        self.driver.call("disconnect", self.client_id)

    def kill(self):
        self.driver.call("kill", self.client_id)


class ChromiumClient(MqttJsClient):
    name = "mqttjs-chromium"
    script = "browser.js"
    driver = None
    transports = ("ws", "wss")

    @classmethod
    def start(cls):
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        if not os.access(chromium, os.X_OK):
            raise Unavailable(f"{chromium} is not installed (Debian package chromium)")
        if not (FOLDER / "node_modules" / "playwright-core").is_dir():
            raise Unavailable(f"npm packages are not installed under {FOLDER}")
        super().start()
        agent = cls.driver.call("agent", timeout=60)
        if "Chrome" not in agent:
            raise Failed(f"no Chromium: {agent}")
