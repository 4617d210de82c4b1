// Listeners and settings.

import net from 'node:net';
import { holds, same, until } from '../browser.js';

const open = (port) =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => (socket.destroy(), resolve(true)));
    socket.once('error', () => resolve(false));
  });

async function listeners({ tab, page, broker, traffic, picture }) {
  await tab.go('listeners');
  for (const id of ['tcp:default', 'tls:default', 'ws:default', 'wss:default']) await page.waitForSelector(`[data-listener="${id}"]`);
  const six = [...traffic.clients.keys()].filter((id) => /^sensor-\d\d9$/.test(id)).length;
  await until('connections over WebSocket', async () => (await tab.figure('[data-listener="ws:default"] [data-figure=connections]')) === six);
  holds('its port', (await tab.text('[data-listener="tcp:default"]')).includes(String(broker.port('tcp'))));
  holds('the certificate and its end', /ends in/.test(await tab.text('[data-listener="tls:default"]')));
  await picture('listeners');
  const port = broker.port('tls');
  same('the port before', await open(port), true);
  await page.click('[data-listener="tls:default"] [data-stop]');
  await tab.confirm();
  await until('it is stopped', () => tab.count('[data-listener="tls:default"] [data-start]'));
  same('the port when it is stopped', await open(port), false);
  await page.click('[data-listener="tls:default"] [data-start]');
  await until('it runs again', () => tab.count('[data-listener="tls:default"] [data-stop]'));
  const now = (await broker.call('GET', 'listeners/tls:default')).body.bind[0];
  same('the port when it runs', await open(Number(now.split(':').at(-1))), true);
}

async function settings({ tab, page, broker, picture }) {
  await tab.go('settings');
  const origin = async (key) => [await tab.text(`[data-key="${key}"] [data-value]`), await tab.text(`[data-key="${key}"] [data-origin]`)];
  await page.waitForSelector('[data-key="mqtt.max_queue_len"]');
  same('from the file', await origin('mqtt.max_queue_len'), ['50', 'file']);
  same('from the environment', await origin('mqtt.max_inflight'), ['20', 'environment']);
  same('the default', (await origin('mqtt.max_qos'))[1], 'default');
  holds('the line of the file', /nightjar\.toml:\d+/.test(await tab.text('[data-key="mqtt.max_queue_len"]')));
  holds('the variable', (await tab.text('[data-key="mqtt.max_inflight"]')).includes('NIGHTJAR_MQTT__MAX_INFLIGHT'));
  holds('no secret in the page', !(await page.content()).includes(broker.password));
  await picture('settings');
  await page.fill('[name=settings-search]', 'max_queue_len');
  await until('the search finds it', async () => (await tab.count('[data-key]')) < 10 && (await tab.count('[data-key="mqtt.max_queue_len"]')) === 1);
  await page.fill('[name=settings-search]', '');
  await page.check('[name=changed]');
  await until('only what was changed', async () => (await tab.count('[data-key="mqtt.max_qos"]')) === 0 && (await tab.count('[data-key="mqtt.max_inflight"]')) === 1);
  await page.fill('[name=level]', 'warn');
  await page.click('[data-level]');
  await until('the log level is set', async () => (await broker.call('GET', 'log')).body.level === 'warn');
  await page.click('[data-reload]');
  await until('the reload says what it did', () => tab.count('.toast'));
}

export default [
  ['settings: values, origins, log level', settings],
  ['listeners: figures, stop, start', listeners],
];
