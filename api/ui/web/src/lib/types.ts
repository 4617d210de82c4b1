// The shapes of the HTTP API, as far as the pages read them. Times are RFC 3339 in UTC.

export interface List<T> {
  data: T[];
  meta: { cursor: string | null; hasnext: boolean; count?: number };
}

export interface NodeInfo {
  node: string;
  node_status: string;
  version: string;
  uptime: number;
  started_at: string;
  role: string;
  connections: number;
  sessions: number;
  subscriptions: number;
  topics: number;
  retained: number;
  memory_used: number;
  memory_total: number;
  memory_level: string;
  process_cpu: number;
  load1: number;
  load5: number;
  load15: number;
  open_fds: number | null;
  max_fds: number | null;
  os: string;
  arch: string;
}

export interface Cluster {
  name?: string;
  self: string;
  nodes: { node: string; status: string; address: string | null }[];
  [more: string]: unknown;
}

export interface Rates {
  received_msg: number;
  sent_msg: number;
  dropped_msg: number;
  bytes_in: number;
  bytes_out: number;
  connects: number;
  disconnects: number;
}

export interface Overview {
  at: number;
  node: NodeInfo;
  stats: Record<string, number>;
  rates: Rates;
  latency: { deliver_p50_ms: number | null; deliver_p99_ms: number | null } | null;
  alarms: number;
}

export interface Monitor {
  interval: number;
  from: number;
  series: Record<string, (number | null)[]>;
}

export interface Client {
  clientid: string;
  username: string | null;
  node: string;
  connected: boolean;
  connected_at: string | null;
  disconnected_at: string | null;
  created_at: string | null;
  ip_address: string | null;
  port: number | null;
  listener: string | null;
  proto_name: string;
  proto_ver: number;
  clean_start: boolean;
  keepalive: number;
  expiry_interval: number;
  durable: boolean;
  is_superuser: boolean;
  subscriptions_cnt: number;
  inflight_cnt: number;
  inflight_max: number;
  mqueue_len: number;
  mqueue_max: number;
  mqueue_dropped: number;
  recv_msg: number;
  send_msg: number;
  recv_pkt: number;
  send_pkt: number;
  recv_oct: number;
  send_oct: number;
  sn?: { state: string } | null;
}

export interface Subscription {
  clientid: string;
  node: string;
  topic: string;
  qos: number;
  nl: number;
  rap: number;
  rh: number;
  durable: boolean;
  subid: number | null;
}

export interface TimelineEvent {
  at: string;
  event: string;
  text: string;
  node: string;
}

export interface TreeLevel {
  level: string;
  topic: string;
  subscribers: number;
  children: boolean;
  total: number;
}

export interface Retained {
  topic: string;
  qos: number;
  payload_size: number;
  publish_at: string | null;
  expires_at: string | null;
  from_clientid: string | null;
}

export interface RetainedBody extends Retained {
  payload: string;
  payload_text: string | null;
}

export interface Listener {
  id: string;
  type: string;
  bind: string[];
  running: boolean;
  enable: boolean;
  current_connections: number;
  max_connections: number | null;
  handshakes: number;
  accepted: number;
  accept_errors: number;
  health_checks: number;
  refused: Record<string, number>;
  path: string | null;
  proxy_protocol: string;
  tls: { subject: string; issuer: string; not_before: string; not_after: string; names: string[]; file: string } | null;
}

export interface Gateway {
  listener: string;
  gateway_id: number;
  bind: string;
  clients: number;
  asleep: number;
  buffered: number;
  [more: string]: unknown;
}

export interface Sleeper {
  clientid: string;
  listener: string;
  asleep_since: string | null;
  duration: number | null;
  wakes_in: number | null;
  buffered: number;
  buffer_max: number;
  topic_ids: number | null;
}

export interface SnTopic {
  clientid: string | null;
  id: number;
  topic: string;
  kind: string;
}

export interface User {
  user_id: string;
  kind: string;
  is_superuser: boolean;
}

export interface AclVerdict {
  allowed: boolean;
  result: string;
  reason: string;
}

export interface Acl {
  sources: { name: string; kind: string }[];
  no_match: string;
  deny_action: string;
  cache_size: number;
  /** Seconds. */
  cache_ttl: number;
}

export interface Auth {
  chain: { name: string; kind: string }[];
  allow_anonymous: boolean | null;
}

export interface Ban {
  as: string;
  who: string;
  by: string | null;
  reason: string | null;
  at: string;
  until: string;
}

export interface Alarm {
  name: string;
  message: string;
  details: Record<string, unknown>;
  node: string;
  activate_at: string;
  deactivate_at: string | null;
  duration: number | null;
  activated: boolean;
}

export interface Drop {
  at: string;
  clientid: string;
  topic: string | null;
  reason: string;
  count: number;
  from_clientid: string | null;
}

export interface Explanation {
  delivered: "yes" | "no" | "maybe";
  summary: string;
  steps: { check: string; ok: boolean | null; text: string }[];
}

export interface Trace {
  name: string;
  type: string;
  value: string;
  status: string;
  start_at: string;
  end_at: string | null;
  log_size: number;
}

export interface Setting {
  key: string;
  value: unknown;
  origin: string;
  where: string | null;
  default: unknown;
  secret: boolean;
  apply: string;
  doc: string;
  type: string;
}

export interface Account {
  username: string;
  role: string;
  description: string | null;
}

export interface ApiKey {
  name: string;
  key: string;
  role: string;
  enable: boolean;
  expires_at: string | null;
  created_at: string;
  description: string | null;
  secret?: string;
}

export interface AuditEntry {
  at: string;
  who: string;
  role: string;
  from: string;
  method: string;
  path: string;
  status: number;
  body: unknown;
}

export interface Rule {
  number: number;
  rule: string;
}
