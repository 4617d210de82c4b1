// Starts and stops the broker under test on free ports of loopback, with a data folder of its own.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

// How long a debug build may take until its ready line.
const READY = 30_000;

// Rules that "may X do Y?" is asked about; everything else is allowed.
const ACL = `{allow, {user, "reader"}, subscribe, ["secret/#"]}.
{deny, all, all, ["secret/#"]}.
{allow, all}.
`;

// Paths are relative to the folder it runs in.
const config = `
[node]
name = "dashboard@127.0.0.1"
data_dir = "data"
[listeners.tcp.default]
bind = "127.0.0.1:0"
[listeners.tls.default]
bind = "127.0.0.1:0"
[listeners.ws.default]
bind = "127.0.0.1:0"
[listeners.wss.default]
bind = "127.0.0.1:0"
[listeners.mqttsn.default]
bind = "127.0.0.1:0"
[mqtt]
max_queue_len = 50
[auth]
allow_anonymous = true
[[auth.chain]]
kind = "builtin"
[acl]
no_match = "allow"
[[acl.sources]]
kind = "builtin"
[[acl.sources]]
kind = "file"
path = "acl.conf"
[api]
bind = "127.0.0.1:0"
`;

export class Broker {
  constructor(binary) {
    this.binary = binary;
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'nightjar-dashboard-'));
  }

  async start() {
    fs.writeFileSync(path.join(this.dir, 'acl.conf'), ACL);
    fs.writeFileSync(path.join(this.dir, 'nightjar.toml'), config);
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NIGHTJAR_')));
    // A setting of the environment, for the page that says where each value comes from.
    env.NIGHTJAR_MQTT__MAX_INFLIGHT = '20';
    const log = fs.openSync(path.join(this.dir, 'log'), 'a');
    this.process = spawn(this.binary, ['serve', '--config', 'nightjar.toml'], { cwd: this.dir, env, stdio: ['ignore', 'pipe', log] });
    let out = '';
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ready line within ${READY / 1000} s: ${this.tail()}`)), READY);
      this.process.stdout.on('data', (part) => {
        out += part;
        if (/^nightjar ready:.*\n/m.test(out)) {
          clearTimeout(timer);
          resolve();
        }
      });
      this.process.once('exit', (code) => {
        clearTimeout(timer);
        reject(new Error(`nightjar ended with ${code} before it was ready: ${this.tail()}`));
      });
    });
    this.endpoints = JSON.parse(fs.readFileSync(path.join(this.dir, 'data/listeners.json'), 'utf8'));
    this.password = fs.readFileSync(path.join(this.dir, 'data/admin-password'), 'utf8').trim();
    return this;
  }

  address(name) {
    const found = this.endpoints[name] ?? this.endpoints[`${name}:default`];
    if (!found) throw new Error(`listeners.json has no ${name}: ${JSON.stringify(this.endpoints)}`);
    return found;
  }

  port(name) {
    return Number(this.address(name).split(':').at(-1));
  }

  get url() {
    return `http://127.0.0.1:${this.port('api')}/`;
  }

  tail() {
    return fs.readFileSync(path.join(this.dir, 'log'), 'utf8').split('\n').slice(-12).join('\n');
  }

  panicked() {
    return /panicked at .*/.exec(fs.readFileSync(path.join(this.dir, 'log'), 'utf8'))?.[0] ?? null;
  }

  async stop() {
    if (this.process && this.process.exitCode === null) {
      const ended = new Promise((resolve) => this.process.once('exit', resolve));
      this.process.kill('SIGTERM');
      const timer = setTimeout(() => this.process.kill('SIGKILL'), 8000);
      await ended;
      clearTimeout(timer);
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  /** A call of the HTTP API, as a script makes it. */
  async call(method, route, body) {
    this.token ??= (await this.raw('POST', 'login', { username: 'admin', password: this.password })).body.token;
    return this.raw(method, route, body, this.token);
  }

  async raw(method, route, body, token) {
    const answer = await fetch(`${this.url}api/v1/${route}`, {
      method,
      headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, body: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text };
  }
}
