// A page of the dashboard in Chromium, and the watch over it: what it complains about fails the case that was running.

import { chromium } from 'playwright-core';

export async function until(what, ask, limit = 10_000) {
  const end = Date.now() + limit;
  let last;
  for (;;) {
    try {
      last = await ask();
      if (last) return last;
    } catch (e) {
      last = e;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${limit / 1000} s${last instanceof Error ? ` (${last.message.split('\n')[0]})` : last === undefined ? '' : ` (last: ${JSON.stringify(last)})`}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export function same(what, is, wanted) {
  if (JSON.stringify(is) !== JSON.stringify(wanted)) throw new Error(`${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(is)}`);
}

export function holds(what, is) {
  if (!is) throw new Error(what);
}

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-color-profile=srgb'],
  });
}

export class Tab {
  complaints = [];

  static async open(browser, broker, options = {}) {
    const tab = new Tab();
    tab.broker = broker;
    tab.context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: 'en-GB', colorScheme: 'light', ...options });
    // Chromium tells the console of a violated policy; this tells which directive it was.
    await tab.context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (e) => console.error(`CSP ${e.violatedDirective} ${e.blockedURI}`));
    });
    tab.page = await tab.context.newPage();
    tab.page.setDefaultTimeout(10_000);
    tab.page.on('console', (m) => {
      if (m.type() === 'error' || m.type() === 'warning') tab.complaints.push(`${m.type()}: ${m.text()} ${m.location().url}`);
    });
    tab.page.on('pageerror', (e) => tab.complaints.push(`exception: ${e.message}`));
    await tab.page.goto(broker.url);
    await tab.page.waitForSelector('input[name=password]');
    return tab;
  }

  async login(username = 'admin', password = this.broker.password) {
    await this.page.fill('input[name=username]', username);
    await this.page.fill('input[name=password]', password);
    await this.page.keyboard.press('Enter');
    // On a phone it is there, behind the menu.
    await this.page.waitForSelector('nav.side', { state: 'attached' });
  }

  /** Goes to a place and waits until it stands. */
  async go(place) {
    await this.page.goto(`${this.broker.url}#/${place}`);
    await this.page.waitForSelector('main h1');
    await until('the page is loaded', () => this.page.evaluate((p) => location.hash.startsWith(`#/${p.split('?')[0]}`), place));
  }

  text(selector) {
    return this.page.locator(selector).first().innerText();
  }

  count(selector) {
    return this.page.locator(selector).count();
  }

  /** The number in an element, without separators. */
  async figure(selector) {
    return Number((await this.text(selector)).replace(/[^0-9.]/g, ''));
  }

  async confirm() {
    await this.page.click('dialog [data-confirm]');
    await this.page.waitForSelector('dialog', { state: 'detached' });
  }

  close() {
    return this.context.close();
  }
}
