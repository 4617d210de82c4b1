// May X do Y?, users, the chain, bans, accounts.

import { holds, same, until } from '../browser.js';
import { connect } from '../traffic.js';

async function may({ tab, page, picture }) {
  await tab.go('access');
  const ask = async (user, action, topic) => {
    await page.fill('[name=username]', user);
    await page.selectOption('[name=action]', action);
    await page.fill('[name=topic]', topic);
    const answer = page.waitForResponse((r) => r.url().endsWith('/acl/test'));
    await page.keyboard.press('Enter');
    await answer;
    await page.waitForSelector('[data-verdict]');
    return [await page.locator('[data-verdict]').getAttribute('data-verdict'), await tab.text('[data-verdict]')];
  };
  const [yes, why] = await ask('reader', 'subscribe', 'secret/plan');
  same('reader may', yes, 'allow');
  holds(`the rule is named: ${why}`, /acl\.conf|rule|reader/.test(why));
  const [no] = await ask('mallory', 'subscribe', 'secret/plan');
  same('mallory may not', no, 'deny');
  await picture('access');
  same('anybody may publish', (await ask('', 'publish', 'room/1/temperature'))[0], 'allow');
}

async function users({ tab, page, broker, picture }) {
  await tab.go('access?tab=users');
  await page.click('[data-add]');
  await page.fill('dialog [name=user]', 'ann');
  await page.fill('dialog [name=new-password]', 'spring-river-9');
  await page.click('dialog [data-save]');
  await page.waitForSelector('[data-user=ann]');
  await picture('users');
  const right = await connect(broker, 'ann-1', { username: 'ann', password: 'spring-river-9' });
  await right.endAsync();
  const wrong = await connect(broker, 'ann-2', { username: 'ann', password: 'wrong' }).then(() => 'let in', () => 'refused');
  same('with a wrong password', wrong, 'refused');
  await page.click('[data-user=ann] [data-delete]');
  await tab.confirm();
  await until('the user is gone', async () => (await tab.count('[data-user=ann]')) === 0);
  const gone = await connect(broker, 'ann-3', { username: 'ann', password: 'spring-river-9' }).then(() => 'let in', () => 'refused');
  same('after the user was deleted', gone, 'refused');
}

async function rules({ tab, page, broker, picture }) {
  await tab.go('access?tab=rules');
  const may = async () => (await broker.call('POST', 'acl/test', { username: 'eve', action: 'publish', topic: 'gate/open' })).body.result;
  same('before', await may(), 'allow');
  const rule = '{deny, {user, "eve"}, publish, ["gate/#"]}.';
  await page.fill('[name=rule]', rule);
  await page.click('[data-add-rule]');
  await page.waitForSelector('[data-rule]');
  same('with the rule', await may(), 'deny');
  await picture('own-rules');
  await page.click('[data-rule] [data-delete]');
  await tab.confirm();
  await until('the rule is gone', async () => (await tab.count('[data-rule]')) === 0);
  same('after the rule was deleted', await may(), 'allow');
  await page.fill('[name=rule]', '{nonsense}');
  await page.click('[data-add-rule]');
  await until('a broken rule is refused in words', () => tab.count('.toast.bad'));
}

async function chain({ tab, page, picture }) {
  await tab.go('access?tab=chain');
  await until('the chain', async () => (await tab.text('[data-chain] li')).includes('builtin'));
  holds('the rules', (await page.locator('[data-acl] li').allInnerTexts()).join().includes('acl.conf'));
  await picture('rules');
  await page.click('[data-acl] button >> nth=0');
  // The error of the case before may still be shown above it.
  const toasts = async () => (await page.locator('.toast').allInnerTexts()).join();
  await until('they are read again', async () => (await toasts()).includes('read again'));
}

async function bans({ tab, page, broker, traffic, picture }) {
  const client = await traffic.join('intruder');
  await tab.go('bans');
  await page.click('[data-add]');
  await page.selectOption('dialog [name=as]', 'clientid');
  await page.fill('dialog [name=who]', 'intruder');
  await page.fill('dialog [name=reason]', 'floods room/#');
  await page.click('dialog [data-save]');
  await page.waitForSelector('[data-ban=intruder]');
  await until('its connection ends', async () => !client.connected, 5000);
  const again = await connect(broker, 'intruder').then(() => 'let in', () => 'refused');
  same('the one who is banned', again, 'refused');
  await picture('bans');
  await page.click('[data-ban=intruder] [data-lift]');
  await tab.confirm();
  await until('the ban is gone', async () => (await tab.count('[data-ban=intruder]')) === 0);
  const back = await connect(broker, 'intruder');
  await back.endAsync();
}

async function accounts({ tab, page, broker, picture }) {
  await tab.go('accounts');
  await page.waitForSelector('[data-account=admin]');
  await page.click('[data-add]');
  await page.fill('dialog [name=name]', 'otto');
  await page.selectOption('dialog [name=role]', 'operator');
  await page.fill('dialog [name=new]', 'night-watch-7!');
  await page.click('dialog [data-save]');
  await page.waitForSelector('[data-account=otto]');
  await picture('accounts');
  const login = await broker.raw('POST', 'login', { username: 'otto', password: 'night-watch-7!' });
  same('who logs in', [login.status, login.body.role], [200, 'operator']);
  await page.click('[data-account=otto] [data-delete]');
  await tab.confirm();
  await until('the account is gone', async () => (await tab.count('[data-account=otto]')) === 0);
  await page.click('[data-tab=keys]');
  await page.click('[data-add]');
  await page.fill('dialog [name=name]', 'script');
  await page.click('dialog [data-save]');
  const secret = (await tab.text('[data-secret]')).trim();
  const answer = await fetch(`${broker.url}api/v1/whoami`, { headers: { authorization: `Basic ${Buffer.from(secret).toString('base64')}` } });
  same('a script with the key', answer.status, 200);
  await page.click('dialog .btn.primary');
  await page.click('[data-api-key=script] [data-delete]');
  await tab.confirm();
  await until('the key is gone', async () => (await tab.count('[data-api-key]')) === 0);
  await page.click('[data-tab=audit]');
  await until('the log names the call', () => tab.count('[data-audit*="accounts"]'));
  const told = (await page.locator('[data-audit]').allInnerTexts()).join('\n');
  holds('no password in the audit log', !told.includes('night-watch-7!'));
  await picture('audit');
}

export default [
  ['access: may X do Y?', may],
  ['access: users', users],
  ['access: rules of the node', rules],
  ['access: chain and rules in force', chain],
  ['bans: add, refused, lift', bans],
  ['accounts: people, keys, audit log', accounts],
];
