// One WebSocket for all that moves. Pages say what they look at; a hidden tab looks at nothing and costs nothing.

import { session } from "./session.svelte";
import type { Alarm, NodeInfo, Overview } from "./types";

type Message = { type: string } & Record<string, unknown>;
type Listen = (message: Message) => void;

/** One second of the overview, kept for the live charts. */
export interface Sample {
  at: number;
  connections: number | null;
  sessions: number | null;
  received: number | null;
  sent: number | null;
  dropped: number | null;
  in: number | null;
  out: number | null;
  cpu: number | null;
  memory: number | null;
}

/** How long the live charts reach back, in milliseconds. */
export const LIVE_SPAN = 300_000;

class Live {
  state = $state<"connecting" | "live" | "lost">("connecting");
  overview = $state.raw<Overview | null>(null);
  nodes = $state.raw<NodeInfo[]>([]);
  alarms = $state.raw<Alarm[]>([]);
  samples = $state.raw<Sample[]>([]);
  /** The time of the node, for "5 seconds ago"; moves each second. */
  now = $state(Date.now());

  private socket: WebSocket | null = null;
  private wanted = new Map<string, number>();
  private listeners = new Map<string, Set<Listen>>();
  private again = 0;
  private wait = 500;
  private heard = 0;
  private ready = false;
  /** What the node's clock is ahead of this one, in milliseconds. */
  private ahead = 0;

  constructor() {
    setInterval(() => {
      if (document.hidden) return;
      this.now = Date.now() + this.ahead;
      // A push comes each second: silence is a network that is gone without a word.
      if (this.ready && this.topics().length > 0 && this.heard && Date.now() - this.heard > 8000) this.lose();
    }, 1000);
    document.addEventListener("visibilitychange", () => {
      this.heard = Date.now();
      this.subscribe();
    });
  }

  /** Opens the socket; called when somebody is logged in. */
  open() {
    clearTimeout(this.again);
    this.close();
    const address = new URL("api/v1/live", document.baseURI);
    address.hash = "";
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.socket = socket;
    this.ready = false;
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token: session.token }));
    socket.onmessage = (event) => {
      if (socket === this.socket) this.take(JSON.parse(String(event.data)) as Message);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      this.socket = null;
      this.ready = false;
      if (event.code === 4401) {
        session.expire();
        return;
      }
      this.lose();
    };
  }

  /** Gives the connection up and tries again; a close over a dead network would take minutes to be told. */
  private lose() {
    const socket = this.socket;
    this.socket = null;
    this.ready = false;
    socket?.close();
    this.state = "lost";
    clearTimeout(this.again);
    this.again = setTimeout(() => this.open(), this.wait) as unknown as number;
    this.wait = Math.min(this.wait * 2, 8000);
  }

  close() {
    clearTimeout(this.again);
    const socket = this.socket;
    this.socket = null;
    this.ready = false;
    socket?.close();
  }

  /** Forgets what the last user saw. */
  forget() {
    this.close();
    this.overview = null;
    this.nodes = [];
    this.alarms = [];
    this.samples = [];
    this.state = "connecting";
  }

  /** Looks at a topic until the returned function is called. */
  watch(topic: string, listen?: Listen): () => void {
    const kind = topic.split(":", 1)[0] ?? topic;
    this.wanted.set(topic, (this.wanted.get(topic) ?? 0) + 1);
    if (listen) {
      if (!this.listeners.has(kind)) this.listeners.set(kind, new Set());
      this.listeners.get(kind)!.add(listen);
    }
    this.subscribe();
    return () => {
      const left = (this.wanted.get(topic) ?? 1) - 1;
      if (left > 0) this.wanted.set(topic, left);
      else this.wanted.delete(topic);
      if (listen) this.listeners.get(kind)?.delete(listen);
      this.subscribe();
    };
  }

  private topics() {
    return document.hidden ? [] : [...this.wanted.keys()];
  }

  private subscribe() {
    if (!this.ready || this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ type: "subscribe", topics: this.topics() }));
  }

  private take(message: Message) {
    this.heard = Date.now();
    switch (message.type) {
      case "ready":
        this.ready = true;
        this.ahead = (Date.parse(String(message.server_time)) || Date.now()) - Date.now();
        this.state = "live";
        this.wait = 500;
        this.subscribe();
        break;
      case "overview":
        this.overview = message as unknown as Overview;
        this.sample(this.overview);
        break;
      case "nodes":
        this.nodes = message.data as NodeInfo[];
        break;
      case "alarms":
        this.alarms = message.data as Alarm[];
        break;
    }
    for (const listen of this.listeners.get(message.type) ?? []) listen(message);
  }

  private sample(o: Overview) {
    const last = this.samples.at(-1);
    if (last && o.at <= last.at) return;
    const from = o.at - LIVE_SPAN;
    this.samples = [
      ...this.samples.filter((s) => s.at >= from),
      {
        at: o.at,
        connections: o.node.connections,
        sessions: o.node.sessions,
        received: o.rates.received_msg,
        sent: o.rates.sent_msg,
        dropped: o.rates.dropped_msg,
        in: o.rates.bytes_in,
        out: o.rates.bytes_out,
        cpu: o.node.process_cpu,
        memory: o.node.memory_used,
      },
    ];
  }

  /** Fills the times in which this page was not looking with what the node has kept. */
  seed(kept: Sample[]) {
    const from = (kept.at(-1)?.at ?? 0) - LIVE_SPAN;
    const own = this.samples;
    const missing = kept.filter((k) => k.at >= from && !own.some((s) => Math.abs(s.at - k.at) < 5000));
    this.samples = [...own.filter((s) => s.at >= from), ...missing].sort((a, b) => a.at - b.at);
  }
}

export const live = new Live();
