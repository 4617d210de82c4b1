// What every page shares: login, keyboard, languages, themes, the policy.

import { holds, same, until } from '../browser.js';

const PLACES = [
  'overview', 'nodes', 'alarms', 'clients', 'subscriptions', 'topics', 'retained', 'mqttsn', 'access', 'access?tab=users', 'access?tab=rules', 'access?tab=chain',
  'bans', 'accounts', 'accounts?tab=keys', 'accounts?tab=audit', 'explain', 'traces', 'tool', 'listeners', 'settings',
];

async function files({ broker }) {
  const page = await fetch(broker.url);
  same('status of /', page.status, 200);
  const policy = page.headers.get('content-security-policy') ?? '';
  holds(`the policy allows something inline: ${policy}`, policy.includes("script-src 'self'") && !policy.includes('unsafe'));
  same('nosniff', page.headers.get('x-content-type-options'), 'nosniff');
  same('framing', page.headers.get('x-frame-options'), 'DENY');
  const html = await page.text();
  holds('the broker was built without its dashboard (npm missing, or NIGHTJAR_UI=skip)', html.includes('id="app"'));
  const script = /src="\.\/(assets\/[^"]+\.js)"/.exec(html)?.[1];
  const first = await fetch(broker.url + script);
  same('status of the script', first.status, 200);
  holds('names with a digest are kept', first.headers.get('cache-control')?.includes('immutable'));
  const tag = page.headers.get('etag');
  same('the page asked for again', (await fetch(broker.url, { headers: { 'if-none-match': tag } })).status, 304);
  for (const wrong of ['assets/none.js', 'no-such-page', '%2e%2e/%2e%2e/etc/passwd']) {
    same(`status of /${wrong}`, (await fetch(broker.url + wrong)).status, 404);
  }
}

async function policyIsInForce({ open }) {
  const tab = await open();
  await tab.page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.inline = 1';
    document.head.append(script);
  });
  same('the inline script', await tab.page.evaluate(() => window.inline ?? null), null);
  await until('the violation is told', async () => tab.complaints.some((c) => c.includes('CSP script-src')));
  await tab.close();
}

async function login({ open, broker, picture }) {
  const tab = await open();
  await picture('login', tab);
  await tab.page.fill('input[name=password]', 'wrong');
  await tab.page.keyboard.press('Enter');
  await until('the wrong password is told', async () => (await tab.text('[role=alert]')).includes('wrong'));
  same('pages of somebody unknown', await tab.count('nav.side'), 0);
  await tab.login();
  await tab.page.reload();
  await tab.page.waitForSelector('nav.side');
  const token = await tab.page.evaluate(() => JSON.parse(sessionStorage.getItem('nightjar.session')).token);
  same('the token works', (await broker.raw('GET', 'whoami', undefined, token)).body.role, 'admin');
  await tab.page.click('[data-logout]');
  await tab.page.waitForSelector('input[name=password]');
  same('the token after the logout', (await broker.raw('GET', 'whoami', undefined, token)).status, 401);
  same('kept in the page', await tab.page.evaluate(() => sessionStorage.length), 0);
  await tab.close();
}

async function expired({ open }) {
  const tab = await open();
  await tab.login();
  await tab.page.evaluate(() => sessionStorage.setItem('nightjar.session', JSON.stringify({ token: 'nonsense', username: 'admin', role: 'admin' })));
  await tab.page.reload();
  await tab.page.waitForSelector('input[name=password]');
  await until('the page says why', async () => (await tab.text('.note')).includes('ended'));
  await tab.close();
}

async function keyboard({ tab, page }) {
  await tab.go('overview');
  await page.waitForSelector('[data-ready]');
  await page.locator('main').focus();
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.type('gc');
  await until('g c opens the clients', async () => page.url().endsWith('#/clients'));
  await page.waitForSelector('[data-row]');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('/');
  await until('/ goes to the search', () => page.evaluate(() => document.activeElement?.matches('[data-search]')));
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  const row = await page.evaluate(() => document.activeElement?.getAttribute('data-client'));
  const second = await page.locator('[data-row]').nth(1).getAttribute('data-client');
  same('j j', row, second);
  await page.keyboard.press('Enter');
  await until('Enter opens the row', async () => page.url().endsWith(`#/clients/${encodeURIComponent(second)}`));
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('?');
  await page.waitForSelector('dialog kbd');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  await page.keyboard.press('Control+k');
  await page.keyboard.type('retain');
  await page.keyboard.press('Enter');
  await until('Ctrl K goes to a page', async () => page.url().endsWith('#/retained'));
}

async function themes({ open, picture }) {
  const tab = await open({ colorScheme: 'dark' });
  await tab.login();
  const theme = () => tab.page.evaluate(() => document.documentElement.dataset.theme);
  same("the system's theme", await theme(), 'dark');
  await tab.page.waitForSelector('[data-ready]');
  await tab.page.waitForTimeout(3000);
  await picture('overview-dark', tab);
  await tab.page.click('[data-theme-toggle]');
  same('the other theme', await theme(), 'light');
  await tab.page.reload();
  same('the theme that was chosen', await theme(), 'light');
  same('complaints', tab.complaints, []);
  await tab.close();
}

async function languages({ open, picture }) {
  const tab = await open({ locale: 'zh-CN' });
  await tab.login();
  same('the language of the page', await tab.page.evaluate(() => document.documentElement.lang), 'zh');
  for (const place of PLACES) {
    await tab.go(place);
    const heading = await tab.text('main h1');
    holds(`${place} has the English heading ${heading}`, /[\u4e00-\u9fff]/.test(heading) || heading === 'MQTT-SN');
  }
  await tab.go('clients');
  await tab.page.waitForSelector('[data-row]');
  await picture('clients-zh', tab);
  await tab.page.click('[data-language]');
  await until('English', async () => (await tab.text('main h1')) === 'Clients');
  await tab.page.reload();
  await until('English is kept', async () => (await tab.text('main h1')) === 'Clients');
  same('complaints', tab.complaints, []);
  await tab.close();
}

async function narrow({ open }) {
  const tab = await open({ viewport: { width: 390, height: 800 } });
  await tab.login();
  for (const place of PLACES) {
    await tab.go(place);
    await tab.page.waitForTimeout(150);
    const wide = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    holds(`${place} is ${wide} px wider than a phone`, wide <= 0);
  }
  await tab.page.click('.burger');
  await tab.page.click('nav.side a[href="#/bans"]');
  await until('the menu leads to a page', async () => (await tab.text('main h1')) === 'Bans');
  await tab.close();
}

async function roles({ open, broker }) {
  const made = await broker.call('POST', 'accounts', { username: 'vera', password: 'only-looks-8!', role: 'viewer' });
  same('the account is made', made.status, 201);
  const tab = await open();
  await tab.login('vera', 'only-looks-8!');
  await tab.go('clients/board');
  await tab.page.waitForSelector('.cards');
  same('buttons to disconnect', await tab.count('[data-kick]'), 0);
  await tab.go('retained');
  await tab.page.waitForSelector('[data-retained]');
  same('buttons to delete', await tab.count('[data-delete]'), 0);
  await tab.go('accounts');
  same('accounts', await tab.count('[data-account]'), 0);
  same('complaints', tab.complaints, []);
  await tab.close();
  same('the account is deleted', (await broker.call('DELETE', 'accounts/vera')).status, 204);
}

export default [
  ['files: policy, ETags, unknown paths', files],
  ['the policy stops an inline script', policyIsInForce],
  ['login: wrong password, reload, logout', login],
  ['login: a token that is no more', expired],
  ['keyboard: g c, /, j, Enter, ?, Ctrl K', keyboard],
  ['themes: system, toggle, kept', themes],
  ['languages: every page in Chinese', languages],
  ['narrow: every page on a phone', narrow],
  ['roles: a viewer sees no button that changes', roles],
];
