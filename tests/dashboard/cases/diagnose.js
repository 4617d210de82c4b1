// Why?, traces, the client in the page, alarms.

import { holds, same, until } from '../browser.js';

async function why({ tab, page, picture }) {
  await tab.go('explain');
  const ask = async (from, to, topic) => {
    await page.fill('[name=from]', from);
    await page.fill('[name=to]', to);
    await page.fill('[name=topic]', topic);
    const answer = page.waitForResponse((r) => r.url().endsWith('/explain') && r.request().method() === 'POST');
    await page.keyboard.press('Enter');
    await answer;
    await page.waitForSelector('[data-delivered]');
    return page.locator('[data-delivered]').getAttribute('data-delivered');
  };
  same('the board gets temperatures', await ask('meter', 'board', 'room/1/temperature'), 'yes');
  same('the board gets no states', await ask('meter', 'board', 'room/1/state'), 'no');
  holds('the filter is what failed', await tab.count('[data-check=subscription].bad'));
  same('nobody of this name', await ask('meter', 'ghost', 'room/1/state'), 'no');
  await page.selectOption('form select', '1');
  const verdict = await ask('meter', 'away', 'alerts/fire');
  holds(`a full queue: ${verdict}`, verdict !== 'yes');
  await until('the drops of its queue', () => tab.count('[data-drop=queue_full]'), 6000);
  await page.evaluate(() => document.querySelector('main').scrollTo(0, 0));
  await picture('explain');
}

async function traces({ tab, page, traffic, picture }) {
  await tab.go('traces');
  await page.click('[data-add]');
  await page.fill('dialog [name=name]', 'meter-trace');
  await page.selectOption('dialog [name=type]', 'clientid');
  await page.fill('dialog [name=value]', 'meter');
  await page.click('dialog [data-save]');
  await page.waitForSelector('[data-trace=meter-trace]');
  await until('its lines come', async () => (await tab.text('[data-trace-log]')).includes('room/1/temperature'), 8000);
  const lines = (await tab.text('[data-trace-log]')).split('\n').length;
  await until('and go on', async () => (await tab.text('[data-trace-log]')).split('\n').length > lines + 10, 8000);
  holds('no payload in it', !(await tab.text('[data-trace-log]')).includes('celsius'));
  await picture('traces');
  const download = page.waitForEvent('download');
  await page.click('[data-trace=meter-trace] [aria-label=Download]');
  same('the name of the file', (await download).suggestedFilename(), 'meter-trace.log');
  await page.click('[data-trace=meter-trace] [data-stop]');
  await until('it is stopped', async () => (await tab.text('[data-trace=meter-trace]')).includes('stopped'));
  await page.click('[data-trace=meter-trace] [data-delete]');
  await tab.confirm();
  await until('it is gone', async () => (await tab.count('[data-trace]')) === 0);
}

async function client({ tab, page, traffic, broker, picture }) {
  await tab.go('tool');
  const loaded = () => page.evaluate(() => performance.getEntriesByType('resource').filter((r) => /mqtt\.esm/.test(r.name)).length);
  same('MQTT.js before it is used', await loaded(), 0);
  await until('the address of the WebSocket listener', async () => (await page.inputValue('[name=url]')) === `ws://127.0.0.1:${broker.port('ws')}/mqtt`);
  await page.fill('[name=clientid]', 'in-page');
  await page.click('[data-connect]');
  await page.waitForSelector('[data-state=on]');
  same('MQTT.js after it was used', await loaded(), 1);
  await page.fill('[name=filter]', 'page/#');
  await page.click('[data-subscribe]');
  await page.waitForSelector('[data-filter="page/#"]');
  await page.fill('[name=topic]', 'page/hello');
  await page.fill('[name=payload]', '{"from": "the page"}');
  await page.click('[data-publish]');
  await until('its own message', async () => (await tab.count('.line.in[data-message="page/hello"]')) === 1);
  await traffic.clients.get('meter').publishAsync('page/outside', Buffer.from([0, 255, 1]), { qos: 1 });
  await until('one from outside, as bytes', async () => (await tab.text('.line.in[data-message="page/outside"] pre')).startsWith('0000  00 ff 01'));
  const script = '<img src=x onerror="document.title=1">';
  await traffic.clients.get('meter').publishAsync('page/script', script, { qos: 0 });
  await until('markup is text', async () => (await tab.text('.line.in[data-message="page/script"] pre')).includes(script));
  await picture('client-in-page');
  // Another page and back: it is still connected.
  await tab.go('clients/in-page');
  await page.waitForSelector('.cards');
  await tab.go('tool');
  await page.waitForSelector('[data-state=on]');
  await page.click('[data-connect]');
  await page.waitForSelector('[data-state=off]');
  // A port where nobody listens, told in words.
  await page.fill('[name=url]', 'ws://127.0.0.1:9/mqtt');
  await page.click('[data-connect]');
  await until('it is told', () => tab.count('[data-note=refused]'));
}

async function alarms({ tab, page, broker, picture }) {
  await tab.go('alarms');
  const { data } = (await broker.call('GET', 'alarms?activated=true')).body;
  await until('what the API says', async () => (await tab.count('[data-alarm]')) === data.length);
  // 30 alerts for a full queue were dropped before these tests.
  await until('the drops of the queue are an alarm', async () => {
    const names = await page.locator('[data-alarm]').evaluateAll((all) => all.map((a) => a.dataset.alarm));
    if (names.some((n) => n.startsWith('queue_drops'))) return true;
    await page.click('[data-tab=history]');
    await page.waitForTimeout(500);
    const past = await page.locator('[data-alarm]').evaluateAll((all) => all.map((a) => a.dataset.alarm));
    return past.some((n) => n.startsWith('queue_drops'));
  });
  await picture('alarms');
}

export default [
  ['why: delivered, no filter, nobody, full queue', why],
  ['traces: start, live lines, download, stop, delete', traces],
  ['client in the page: connect, subscribe, publish, bytes, markup', client, /ERR_|127\.0\.0\.1:9/],
  ['alarms: active and past', alarms],
];
