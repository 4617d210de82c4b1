"""mosquitto_pub and mosquitto_sub (Debian's mosquitto-clients): each call a process of its own."""

import json
import queue
import shutil
import signal
import subprocess
import threading

from .base import WAIT, Client, Failed, Message, Unavailable

VERSIONS = {3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}


class MosquittoClient(Client):
    """`connect` only notes its options: mosquitto_sub connects when it subscribes, mosquitto_pub for each message."""

    name = "mosquitto"
    transports = ("tcp", "tls")

    @classmethod
    def start(cls):
        for program in ("mosquitto_pub", "mosquitto_sub"):
            if shutil.which(program) is None:
                raise Unavailable(f"{program} is not installed (Debian package mosquitto-clients)")

    @classmethod
    def discards_will(cls, version):
        # A 5.0 mosquitto_sub that is ended by a signal says "disconnect with will".
        return version != 5

    def connect(self, clean=True, expiry=0, will=None):
        self.clean, self.expiry, self.will, self.process, self.inbox = clean, expiry, will, None, queue.Queue()
        if not clean or will:
            # A session or a will needs a connection: that of mosquitto_sub, with a subscription that matches nothing.
            self._sub(f"outside/none/{self.client_id}", 1)
        return None

    def _common(self):
        words = ["-h", "localhost", "-p", str(self.broker.port(self.transport)), "-V", VERSIONS[self.version]]
        if self.transport == "tls":
            words += ["--cafile", str(self.broker.ca_file())]
        return words

    def _sub(self, topic_filter, qos):
        self._end(signal.SIGTERM)
        words = ["stdbuf", "-oL", "mosquitto_sub", *self._common(), "-i", self.client_id, "-t", topic_filter,
                 "-q", str(qos), "-d", "-F", "%j"]
        if not self.clean:
            words.append("-c")
        if self.will:
            words += ["--will-topic", self.will.topic, "--will-payload", self.will.payload,
                      "--will-qos", str(self.will.qos), *(["--will-retain"] if self.will.retain else [])]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        subscribed = threading.Event()
        self.seen = []
        threading.Thread(target=self._read, args=(self.process, subscribed), daemon=True).start()
        if not subscribed.wait(WAIT):
            raise Failed(f"mosquitto_sub did not subscribe: {' '.join(self.seen[-5:])}")

    def _read(self, process, subscribed):
        for line in process.stdout:
            line = line.strip()
            if line.startswith("{"):
                self.inbox.put(json.loads(line))
            else:
                self.seen.append(line)
                if line.startswith("Subscribed (mid"):
                    subscribed.set()

    def subscribe(self, topic_filter, qos=0):
        self._sub(topic_filter, qos)

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        words = ["mosquitto_pub", *self._common(), "-i", f"{self.client_id[:22]}p", "-t", topic, "-q", str(qos),
                 "-s" if payload else "-n", *(["-r"] if retain else [])]
        for key, value in (properties or {}).items():
            if key == "content_type":
                words += ["-D", "publish", "content-type", value]
            else:
                for pair in value:
                    words += ["-D", "publish", "user-property", *pair]
        done = subprocess.run(words, input=payload.encode(), capture_output=True, timeout=WAIT + 5, check=False)
        if done.returncode != 0:
            raise Failed(f"mosquitto_pub ended with {done.returncode}: {done.stderr.decode().strip()}")

    def receive(self, timeout=WAIT):
        try:
            m = self.inbox.get(timeout=timeout)
        except queue.Empty:
            raise Failed(f"no message within {timeout:g} s; {' | '.join(self.seen[-5:])}") from None
        told = m.get("properties", {})
        # One value for each name is all that its JSON has room for.
        pairs = told.get("user-properties", {})
        return Message(m["topic"], m["payload"] or "", m["qos"], bool(m["retain"]),
                       {"content_type": told.get("content-type"), "user_property": pairs})

    def _end(self, how):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(WAIT)

    def disconnect(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)
