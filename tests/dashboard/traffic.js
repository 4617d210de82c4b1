// Real clients that give the pages something true to show.

import dgram from 'node:dgram';
import mqtt from 'mqtt';

/** How many sensors stay connected; more than one page of the client list holds. */
export const SENSORS = 60;
/** Messages that the meter publishes each second. */
export const RATE = 20;

const SITE_PASSWORD = 'warm-and-dry-4';

export function connect(broker, clientId, options = {}) {
  const { transport = 'tcp', ...rest } = options;
  const url = transport === 'ws' ? `ws://127.0.0.1:${broker.port('ws')}/mqtt` : `mqtt://127.0.0.1:${broker.port('tcp')}`;
  return mqtt.connectAsync(url, { clientId, protocolVersion: 5, reconnectPeriod: 0, connectTimeout: 8000, ...rest });
}

export class Traffic {
  clients = new Map();

  constructor(broker) {
    this.broker = broker;
  }

  async join(id, options) {
    const client = await connect(this.broker, id, options);
    client.on('error', () => undefined);
    this.clients.set(id, client);
    client.once('close', () => this.clients.delete(id));
    return client;
  }

  get connected() {
    return this.clients.size;
  }

  async start() {
    for (let site = 0; site < 3; site++) {
      const { status, body } = await this.broker.call('POST', 'users', { user_id: `site-${site}`, password: SITE_PASSWORD, kind: 'username' });
      if (status !== 201) throw new Error(`user site-${site}: ${status} ${JSON.stringify(body)}`);
    }
    for (let i = 0; i < SENSORS; i++) {
      const id = `sensor-${String(i).padStart(3, '0')}`;
      const sensor = await this.join(id, {
        username: `site-${i % 3}`, password: SITE_PASSWORD, keepalive: 30, transport: i % 10 === 9 ? 'ws' : 'tcp',
      });
      await sensor.subscribeAsync(`room/${i}/set`, { qos: i % 3 });
    }
    const board = await this.join('board');
    await board.subscribeAsync('room/+/temperature', { qos: 0 });
    await board.subscribeAsync('$share/workers/jobs/#', { qos: 1 });
    // Its session waits while it is away, and is too small for what comes.
    const away = await connect(this.broker, 'away', { clean: false, properties: { sessionExpiryInterval: 3600 } });
    await away.subscribeAsync('alerts/#', { qos: 1 });
    await away.endAsync();
    const meter = await this.join('meter');
    for (const [room, state] of [[1, 'warm'], [2, 'cold'], [3, 'open']]) {
      await meter.publishAsync(`room/${room}/state`, JSON.stringify({ state }), { qos: 1, retain: true });
    }
    for (let i = 0; i < 80; i++) await meter.publishAsync('alerts/fire', `alert ${i}`, { qos: 1 });
    this.sent = 0;
    this.timer = setInterval(() => {
      if (!meter.connected) return;
      this.sent += 1;
      meter.publish('room/1/temperature', JSON.stringify({ celsius: 21.5, n: this.sent }), { qos: 1 });
    }, 1000 / RATE);
  }

  /** Messages published each second, as it was lately: a busy machine is slower than the timer says. */
  async rate(seconds = 3) {
    const [sent, at] = [this.sent, performance.now()];
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return ((this.sent - sent) * 1000) / (performance.now() - at);
  }

  async stop() {
    clearInterval(this.timer);
    await Promise.all([...this.clients.values()].map((client) => client.endAsync(true).catch(() => undefined)));
  }
}

/** A sensor that speaks MQTT-SN 1.2 from raw bytes: connects, subscribes, and sleeps. */
export class SnSensor {
  constructor(broker, id) {
    this.id = id;
    this.port = broker.port('mqttsn');
    this.socket = dgram.createSocket('udp4');
    this.waiting = [];
    this.socket.on('message', (packet) => {
      const at = this.waiting.findIndex((w) => w.type === packet[1]);
      if (at >= 0) this.waiting.splice(at, 1)[0].resolve(packet);
    });
  }

  /** Sends a packet until an answer of this type comes; datagrams may be lost. */
  async ask(bytes, type) {
    const packet = Buffer.from([bytes.length + 1, ...bytes]);
    for (let attempt = 0; attempt < 5; attempt++) {
      const answer = new Promise((resolve) => this.waiting.push({ type, resolve }));
      this.socket.send(packet, this.port, '127.0.0.1');
      const got = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 1500, null))]);
      if (got) return got;
    }
    throw new Error(`no answer of type ${type} to an MQTT-SN packet of type ${bytes[0]}`);
  }

  async connect() {
    // CONNECT: clean session, protocol 1, keep alive 60 s.
    const ack = await this.ask([0x04, 0x04, 0x01, 0, 60, ...Buffer.from(this.id)], 0x05);
    if (ack[2] !== 0) throw new Error(`CONNACK ${ack[2]}`);
  }

  async subscribe(filter) {
    // SUBSCRIBE by name, QoS 1, message id 1.
    const ack = await this.ask([0x12, 0x20, 0, 1, ...Buffer.from(filter)], 0x13);
    if (ack.at(-1) !== 0) throw new Error(`SUBACK ${ack.at(-1)}`);
    return ack.readUInt16BE(3);
  }

  async sleep(seconds) {
    await this.ask([0x18, seconds >> 8, seconds & 255], 0x18);
  }

  close() {
    this.socket.close();
  }
}
