// What a test asks of MQTT.js, the same in Node and in a page: `make(mqtt)` gives functions by name.
// Clients are named by the test; messages wait in a queue of their client until `receive` takes them.

export function make(mqtt) {
  const clients = new Map();

  function get(name) {
    const client = clients.get(name);
    if (!client) throw new Error(`no client ${name}`);
    return client;
  }

  function later(promise, seconds, what) {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${what}: nothing within ${seconds} s`)), seconds * 1000);
    });
    return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
  }

  return {
    connect(name, url, options) {
      const connection = mqtt.connect(url, { reconnectPeriod: 0, connectTimeout: 8000, ...options });
      const client = { connection, queue: [], waiting: [], closed: false };
      clients.set(name, client);
      connection.on('message', (topic, payload, packet) => {
        const text = new TextDecoder().decode(payload);
        const message = {
          topic, payload: text, qos: packet.qos, retain: packet.retain, dup: packet.dup, properties: packet.properties ?? {},
        };
        const taker = client.waiting.shift();
        if (taker) taker(message); else client.queue.push(message);
      });
      connection.on('close', () => { client.closed = true; });
      return later(new Promise((resolve, reject) => {
        connection.once('connect', (ack) => resolve({ present: ack.sessionPresent, properties: ack.properties ?? {} }));
        connection.once('error', reject);
      }), 10, 'connect');
    },

    subscribe(name, filter, options) {
      return later(new Promise((resolve, reject) => {
        get(name).connection.subscribe(filter, options, (error, granted) => {
          if (error) reject(error); else resolve(granted.map((g) => g.qos));
        });
      }), 10, 'subscribe');
    },

    unsubscribe(name, filter) {
      return later(get(name).connection.unsubscribeAsync(filter), 10, 'unsubscribe').then(() => null);
    },

    publish(name, topic, payload, options) {
      return later(get(name).connection.publishAsync(topic, payload, options), 15, 'publish').then(() => null);
    },

    receive(name, seconds) {
      const client = get(name);
      if (client.queue.length > 0) return client.queue.shift();
      let taker;
      const message = new Promise((resolve) => { taker = resolve; client.waiting.push(resolve); });
      return later(message, seconds, 'receive').finally(() => {
        client.waiting = client.waiting.filter((w) => w !== taker);
      });
    },

    async disconnect(name) {
      await later(get(name).connection.endAsync(), 10, 'disconnect');
      clients.delete(name);
      return null;
    },

    // The network connection goes away without DISCONNECT.
    kill(name) {
      const { connection } = get(name);
      connection.on('error', () => {});
      connection.stream.destroy();
      clients.delete(name);
      return null;
    },

    closed(name) {
      return get(name).closed;
    },
  };
}
