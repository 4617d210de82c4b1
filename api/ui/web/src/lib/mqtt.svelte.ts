// The MQTT client of the client page: MQTT.js, loaded when the first connection is made. It lives as long as the tab
// is logged in, so that a look at another page does not end the connection.

import type { MqttClient } from "mqtt";

export interface Line {
  id: number;
  at: number;
  /** in: received; out: published here; note: what happened to the connection. */
  way: "in" | "out" | "note";
  topic: string;
  payload: Uint8Array;
  qos: number;
  retain: boolean;
  text: string;
}

export interface Connect {
  url: string;
  clientId: string;
  username: string;
  password: string;
  version: 4 | 5;
  clean: boolean;
  keepalive: number;
}

/** How many lines are kept; older ones go. */
const KEPT = 500;

class Tool {
  state = $state<"off" | "connecting" | "on">("off");
  lines = $state.raw<Line[]>([]);
  filters = $state.raw<{ filter: string; qos: number }[]>([]);
  received = $state(0);
  paused = $state(false);
  private client: MqttClient | null = null;
  private next = 1;
  private pending: Line[] = [];
  private flushing = 0;

  async connect(c: Connect) {
    this.disconnect();
    this.state = "connecting";
    const { default: mqtt } = await import("mqtt");
    if (this.state !== "connecting") return;
    const client = mqtt.connect(c.url, {
      clientId: c.clientId,
      username: c.username || undefined,
      password: c.password || undefined,
      protocolVersion: c.version,
      clean: c.clean,
      keepalive: c.keepalive,
      reconnectPeriod: 0,
      connectTimeout: 8000,
      // Its other timers are workers made from blobs, which the page's policy forbids.
      timerVariant: "native",
    });
    this.client = client;
    client.on("connect", () => {
      this.state = "on";
      this.note("connected");
    });
    client.on("message", (topic, payload, packet) => {
      this.received += 1;
      this.add({ way: "in", topic, payload: new Uint8Array(payload), qos: packet.qos, retain: packet.retain, text: "" });
    });
    client.on("error", (e) => this.note("error", e.message));
    client.on("disconnect", (packet) => this.note("disconnected", `0x${(packet.reasonCode ?? 0).toString(16).padStart(2, "0")}`));
    client.on("close", () => {
      if (this.client !== client) return;
      if (this.state === "on") this.note("closed");
      else if (this.state === "connecting") this.note("refused");
      client.end(true);
      this.client = null;
      this.state = "off";
      this.filters = [];
    });
  }

  disconnect() {
    const client = this.client;
    this.client = null;
    this.state = "off";
    this.filters = [];
    if (client) {
      client.end(false);
      this.note("left");
    }
  }

  async subscribe(filter: string, qos: 0 | 1 | 2) {
    if (!this.client) return;
    const granted = await this.client.subscribeAsync(filter, { qos });
    const code = granted[0]?.qos ?? 128;
    if (code >= 128) throw new Error(`0x${code.toString(16)}`);
    this.filters = [...this.filters.filter((f) => f.filter !== filter), { filter, qos: code }];
  }

  async unsubscribe(filter: string) {
    await this.client?.unsubscribeAsync(filter);
    this.filters = this.filters.filter((f) => f.filter !== filter);
  }

  async publish(topic: string, payload: Uint8Array, qos: 0 | 1 | 2, retain: boolean) {
    if (!this.client) return;
    await this.client.publishAsync(topic, payload as Buffer, { qos, retain });
    this.add({ way: "out", topic, payload, qos, retain, text: "" });
  }

  clear() {
    this.lines = [];
    this.pending = [];
    this.received = 0;
  }

  private note(what: string, text = "") {
    this.add({ way: "note", topic: what, payload: new Uint8Array(), qos: 0, retain: false, text });
  }

  // Thousands of messages a second are shown ten times a second.
  private add(line: Omit<Line, "id" | "at">) {
    if (this.paused && line.way === "in") return;
    this.pending.push({ ...line, id: this.next++, at: Date.now() });
    if (this.pending.length > KEPT) this.pending.splice(0, this.pending.length - KEPT);
    this.flushing ||= setTimeout(() => {
      this.flushing = 0;
      this.lines = [...this.lines, ...this.pending].slice(-KEPT);
      this.pending = [];
    }, 100) as unknown as number;
  }
}

export const tool = new Tool();
