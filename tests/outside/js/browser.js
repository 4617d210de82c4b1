// MQTT.js in a page of a real Chromium: a static page on loopback loads the library's browser build.

import { createServer } from 'node:http';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { serve } from './serve.js';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const page404 = { type: 'text/plain', body: 'not here' };
const files = {
  '/': { type: 'text/html', body: '<!doctype html><title>MQTT in a page</title><script src="/mqtt.js"></script>' },
  '/mqtt.js': { type: 'text/javascript', body: await readFile(here('./node_modules/mqtt/dist/mqtt.min.js')) },
  '/driver.js': { type: 'text/javascript', body: await readFile(here('./driver.js')) },
};
const server = createServer((request, response) => {
  const file = files[request.url];
  response.writeHead(file ? 200 : 404, { 'content-type': (file ?? page404).type });
  response.end((file ?? page404).body);
});
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const origin = `http://127.0.0.1:${server.address().port}`;

const profile = await mkdtemp(join(tmpdir(), 'nightjar-chromium-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  ignoreHTTPSErrors: true,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const page = await context.newPage();
  await page.goto(origin);
  await page.evaluate(async () => { globalThis.driver = (await import('/driver.js')).make(globalThis.mqtt); });
  await serve((op, args) => (op === 'agent' ? page.evaluate(() => navigator.userAgent)
    : page.evaluate(([name, given]) => globalThis.driver[name](...given), [op, args])));
} finally {
  await context.close();
  server.close();
  await rm(profile, { recursive: true, force: true });
}
process.exit(0);
