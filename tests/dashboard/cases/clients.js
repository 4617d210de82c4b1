// Clients: list, search, pages, one client, disconnecting it; sleeping sensors.

import { holds, same, until } from '../browser.js';
import { connect, SENSORS, SnSensor } from '../traffic.js';

async function list({ tab, page, picture }) {
  await tab.go('clients');
  await until('a full page', async () => (await tab.count('[data-client]')) === 50);
  await picture('clients');
  const ids = () => page.locator('[data-client]').evaluateAll((rows) => rows.map((row) => row.dataset.client));
  const first = await ids();
  await page.click('[data-page=forward]');
  await until('the second page', async () => !(await ids()).includes(first[0]));
  const all = [...first, ...(await ids())];
  same('nobody twice', new Set(all).size, all.length);
  for (let i = 0; i < SENSORS; i++) holds(`sensor ${i} is listed`, all.includes(`sensor-${String(i).padStart(3, '0')}`));
  await page.fill('[name=client-search]', 'sensor-04');
  await until('ten sensors', async () => (await tab.count('[data-client]')) === 10);
  await page.fill('[name=client-search]', 'nobody');
  await until('nobody', async () => (await tab.count('[data-client]')) === 0);
}

async function comes({ tab, page, traffic }) {
  await tab.go('clients?q=guest');
  await until('no guest', async () => (await tab.count('.mark')) === 1 && (await tab.count('[data-client]')) === 0);
  const guest = await traffic.join('guest');
  await until('the guest appears by itself', async () => (await tab.count('[data-client=guest]')) === 1, 8000);
  await guest.endAsync();
  await until('and goes', async () => (await tab.count('[data-client=guest]')) === 0, 8000);
}

async function detail({ tab, page, broker, traffic, picture }) {
  const client = await traffic.join('Küche/1 %', { keepalive: 77 });
  await client.subscribeAsync('kitchen/#', { qos: 2 });
  for (let i = 0; i < 5; i++) await client.publishAsync('kitchen/light', 'on', { qos: 1 });
  await tab.go('clients?q=K%C3%BCche');
  await page.click('[data-client="Küche/1 %"]');
  await page.waitForSelector('.cards');
  same('the heading', await tab.text('main h1'), 'Küche/1 %');
  await until('messages from it', async () => (await tab.figure('[data-figure=recv_msg]')) === 5);
  await until('messages to it', async () => (await tab.figure('[data-figure=send_msg]')) === 5);
  holds('its subscription', await tab.count('[data-subscription="kitchen/#"]'));
  const session = await tab.text('.cards section');
  holds(`keep alive in ${session}`, session.includes('1 min 17 s'));
  holds('its connect is told', (await tab.text('[data-timeline]')).includes('connected'));
  const { body } = await broker.call('GET', `clients/${encodeURIComponent('Küche/1 %')}`);
  same('the API says the same', [body.connected, body.keepalive, body.subscriptions_cnt], [true, 77, 1]);
  await picture('client');
  await client.endAsync();
  await until('it left', async () => (await tab.count('[data-missing]')) === 1, 5000);
  await until('its end is told', async () => (await tab.text('[data-timeline]')).includes('disconnected'), 5000);
}

async function queue({ tab, page }) {
  await tab.go('clients/away');
  await page.waitForSelector('.cards');
  // 80 alerts came for a queue of 50.
  await until('its queue', async () => (await tab.text('.cards section:nth-child(2)')).replace(/\s+/g, ' ').includes('50 / 50'), 8000);
  const text = (await tab.text('.cards section:nth-child(2)')).replace(/\s+/g, ' ');
  holds(`dropped in ${text}`, text.includes('Dropped 30'));
}

async function kick({ tab, page, traffic, broker }) {
  const client = await connect(broker, 'noisy', { clean: false });
  let reason = null;
  client.on('disconnect', (packet) => (reason = packet.reasonCode));
  await tab.go('clients/noisy');
  await page.waitForSelector('[data-kick]:not([disabled])');
  await page.click('[data-kick]');
  await tab.confirm();
  await until('the client is told why', async () => reason === 0x98);
  await until('the page shows it', async () => (await tab.count('[data-missing]')) === 1, 6000);
  holds('its end is told', (await tab.text('[data-timeline]')).toLowerCase().includes('kick') || (await tab.text('[data-timeline]')).includes('disconnected'));
  same('the clients that stay', traffic.connected > SENSORS, true);
}

async function sleepers({ tab, page, traffic, broker, picture }) {
  const sensors = [new SnSensor(broker, 'meter-7'), new SnSensor(broker, 'meter-8')];
  const writer = await traffic.join('sn-writer');
  try {
    for (const sensor of sensors) {
      await sensor.connect();
      await sensor.subscribe(`${sensor.id}/config`);
    }
    await sensors[0].sleep(600);
    for (let i = 0; i < 7; i++) await writer.publishAsync('meter-7/config', `value ${i}`, { qos: 1 });
    await tab.go('mqttsn');
    await until('two clients', async () => (await tab.figure('[data-gateway] [data-figure=clients]')) === 2, 8000);
    await until('one asleep', async () => (await tab.figure('[data-gateway] [data-figure=asleep]')) === 1, 8000);
    await until('its buffer', async () => /^7 \//.test(await tab.text('[data-sleeper="meter-7"] .fill span')), 8000);
    same('its topic ids', (await page.locator('[data-sleeper="meter-7"] td').last().innerText()).trim(), '1');
    await picture('mqttsn');
    await page.click('[data-tab=topics]');
    await until('the topic id of the other', async () => (await page.locator('[data-topic-id]').allInnerTexts()).some((row) => row.includes('meter-8/config')), 8000);
    await tab.go('clients?q=meter-8');
    await until('its protocol', async () => (await tab.text('[data-client="meter-8"]')).includes('MQTT-SN'));
  } finally {
    for (const sensor of sensors) sensor.close();
    await writer.endAsync();
  }
}

export default [
  ['clients: list, pages, search', list],
  ['clients: who comes and goes', comes],
  ['clients: one client, whatever its name', detail, /404/],
  ['clients: a full queue', queue],
  ['clients: disconnect with confirmation', kick, /404/],
  ['MQTT-SN: gateway, sleeper, topic ids', sleepers],
];
