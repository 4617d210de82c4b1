// Runs the tests of the dashboard: each page in Chromium, against a broker with real clients.
//
//   node run.js --bin target/debug/nightjar [--only TEXT] [--pictures DIR]
//
// With --pictures each page's picture is written to DIR. The last line is `N passed, N failed, N skipped`.

import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Broker } from './broker.js';
import { launch, Tab } from './browser.js';
import { Traffic } from './traffic.js';
import access from './cases/access.js';
import clients from './cases/clients.js';
import diagnose from './cases/diagnose.js';
import overview from './cases/overview.js';
import shell from './cases/shell.js';
import system from './cases/system.js';
import topics from './cases/topics.js';

const { values: args } = parseArgs({
  options: { bin: { type: 'string', default: 'target/debug/nightjar' }, only: { type: 'string', default: '' }, pictures: { type: 'string' } },
});

// The last ones end sessions and stop listeners.
const cases = [...shell, ...overview, ...topics, ...clients, ...access, ...diagnose, ...system].filter(([name]) => name.includes(args.only));

let passed = 0;
let failed = 0;

function report(name, begin, error) {
  const seconds = ((Date.now() - begin) / 1000).toFixed(2);
  if (error) {
    failed += 1;
    console.log(`FAIL  dashboard/${name} (${seconds} s): ${error.message.split('\n').slice(0, 3).join(' ')}`);
  } else {
    passed += 1;
    console.log(`ok    dashboard/${name} (${seconds} s)`);
  }
}

const broker = new Broker(path.resolve(args.bin));
const traffic = new Traffic(broker);
let browser;
try {
  await broker.start();
  await traffic.start();
  browser = await launch();
  const tab = await Tab.open(browser, broker);
  await tab.login();
  const world = {
    broker,
    traffic,
    browser,
    tab,
    page: tab.page,
    /** Another tab, of somebody who is not logged in. */
    open: (options) => Tab.open(browser, broker, options),
    picture: async (name, of = tab) => {
      if (!args.pictures) return;
      fs.mkdirSync(args.pictures, { recursive: true });
      await of.page.mouse.move(0, 0);
      await of.page.waitForSelector('.toast', { state: 'detached' });
      await of.page.waitForTimeout(400);
      await of.page.screenshot({ path: path.join(args.pictures, `${name}.png`) });
    },
  };
  for (const [name, run, allowed] of cases) {
    const begin = Date.now();
    tab.complaints.length = 0;
    let error = null;
    try {
      await run(world);
      const bad = tab.complaints.filter((c) => !allowed?.test(c));
      if (bad.length > 0) error = new Error(`the page complained: ${bad.join('; ')}`);
    } catch (e) {
      error = e;
      await tab.page.keyboard.press('Escape').catch(() => undefined);
    }
    report(name, begin, error);
  }
  const begin = Date.now();
  report('no panic in the broker', begin, broker.panicked() ? new Error(broker.panicked()) : null);
} catch (e) {
  report('start', Date.now(), e);
} finally {
  await browser?.close();
  await traffic.stop();
  await broker.stop();
}
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed === 0 ? 0 : 1);
