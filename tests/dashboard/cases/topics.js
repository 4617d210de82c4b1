// Subscriptions, the topic tree, retained messages.

import { holds, same, until } from '../browser.js';
import { connect, SENSORS } from '../traffic.js';

async function subscriptions({ tab, page, picture }) {
  await tab.go('subscriptions');
  await until('a full page', async () => (await tab.count('[data-subscription]')) === 50);
  await picture('subscriptions');
  await page.fill('[name=topic-search]', 'room/7/set');
  await until('who gets room/7/set', async () => (await tab.count('[data-subscription]')) === 1);
  same('the filter', await page.locator('[data-subscription]').getAttribute('data-subscription'), 'room/7/set');
  await page.fill('[name=topic-search]', 'room/1/temperature');
  await until('a filter with +', async () => (await page.locator('[data-subscription]').first().getAttribute('data-subscription')) === 'room/+/temperature');
  await page.fill('[name=topic-search]', 'jobs/9');
  await until('a shared one', async () => (await page.locator('[data-subscription]').first().getAttribute('data-subscription')) === '$share/workers/jobs/#');
  await page.fill('[name=topic-search]', 'nobody/gets/this');
  await until('nothing', async () => (await tab.count('[data-subscription]')) === 0);
}

async function paging({ tab, page }) {
  await tab.go('subscriptions');
  await until('a full page', async () => (await tab.count('[data-subscription]')) === 50);
  const seen = async () => page.locator('tbody tr').evaluateAll((rows) => rows.map((row) => row.innerText));
  const first = await seen();
  await page.click('[data-page=forward]');
  await until('the second page', async () => (await seen())[0] !== first[0]);
  const second = await seen();
  holds('no row is on both pages', !second.some((row) => first.includes(row)));
  holds(`the rest: ${second.length}`, second.length >= SENSORS + 3 - 50);
  await page.click('[data-page=back]');
  await until('the first page again', async () => JSON.stringify(await seen()) === JSON.stringify(first));
}

async function tree({ tab, page, picture }) {
  await tab.go('topics');
  await page.click('[data-tree-item="room"]');
  await page.waitForSelector('[data-tree-item="room/7"]');
  await page.locator('[data-tree-item="room/7"]').focus();
  await page.keyboard.press('ArrowRight');
  await page.waitForSelector('[data-tree-item="room/7/set"]');
  holds('one subscriber there', (await tab.text('[data-tree-item="room/7/set"]')).includes('1 here'));
  await page.click('[data-tree-item="room/+"]');
  await page.waitForSelector('[data-tree-item="room/+/temperature"]');
  await page.evaluate(() => document.querySelector('main').scrollTo(0, 0));
  await picture('topics');
  await page.locator('[data-tree-item="room/7"]').focus();
  await page.keyboard.press('ArrowLeft');
  await page.waitForSelector('[data-tree-item="room/7/set"]', { state: 'detached' });
}

async function retained({ tab, page, broker, picture }) {
  await tab.go('retained');
  await page.fill('[name=retained-filter]', 'room/#');
  await until('three messages', async () => (await tab.count('[data-retained]')) === 3);
  await picture('retained');
  await page.click('[data-retained="room/1/state"]');
  await until('its payload', async () => JSON.parse(await tab.text('[data-payload]')).state === 'warm');
  await page.click('[data-tab=hex]');
  holds('its bytes', (await tab.text('[data-payload]')).startsWith('0000  7b 22'));
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  // Not without a yes.
  await page.click('[data-retained="room/2/state"] [data-delete]');
  await page.waitForSelector('dialog [data-confirm]');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  same('kept', (await broker.call('GET', `retained/${encodeURIComponent('room/2/state')}`)).status, 200);
  await page.click('[data-retained="room/2/state"] [data-delete]');
  await tab.confirm();
  await until('two messages', async () => (await tab.count('[data-retained]')) === 2);
  const client = await connect(broker, 'retained-reader');
  const got = [];
  client.on('message', (topic) => got.push(topic));
  await client.subscribeAsync('room/+/state');
  await until('a new subscriber gets the others', async () => got.length >= 2);
  same('what a new subscriber gets', got.sort(), ['room/1/state', 'room/3/state']);
  await client.endAsync();
}

export default [
  ['subscriptions: by topic, with + and shared', subscriptions],
  ['subscriptions: pages by cursor', paging],
  ['topics: levels are read when they open', tree],
  ['retained: list, payload, delete with confirmation', retained],
];
