// LaunchDarkly's server-side SDK for Node.js: `server-sdk.mjs streaming|polling|data-system`.
//
// What every program does and how it is run is in ../README.md.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.SDKS_MODULES}/`);
const { init } = require('@launchdarkly/node-server-sdk');

const mode = process.argv[2];
const world = JSON.parse(readFileSync(process.env.SDKS_WORLD, 'utf8'));
const isPolling = mode === 'polling';
const outageMs = Number(process.env.SDKS_OUTAGE_SECS) * 1000;
// The shortest interval that the SDK allows is 30 s.
const patienceMs = isPolling ? 75_000 : 45_000;
const user = { kind: 'user', key: 'live-user', plan: 'gold' };
let nChecks = 0;

const same = (left, right) => canonical(left) === canonical(right);
const canonical = (value) =>
  JSON.stringify(value, (_, part) =>
    part && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function check(what, is, expected) {
  if (!same(is, expected)) {
    throw new Error(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(expected)}`);
  }
  nChecks += 1;
}

async function becomes(what, ask, expected) {
  const deadline = Date.now() + patienceMs;
  let is = await ask();
  while (!same(is, expected) && Date.now() < deadline) {
    await rest(20);
    is = await ask();
  }
  check(what, is, expected);
}

async function send(method, path, body) {
  const answer = await fetch(`${world.url}/api/v1/projects/shop${path}`, {
    method,
    headers: { Authorization: `Bearer ${world.admin}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}
const change = (flag, ...instructions) =>
  send('PATCH', `/environments/production/flags/${flag}`, { instructions });
const server = (what) => execFileSync(process.env.SDKS_SERVER, [what], { stdio: 'inherit' });

const options = { sendEvents: false, diagnosticOptOut: true, logger: { debug() {}, info() {}, warn() {}, error() {} } };
const uris = { baseUri: world.url, streamUri: world.url, eventsUri: world.url };
const ways = {
  ...(isPolling && { stream: false, pollInterval: 30 }),
  ...(mode === 'data-system' && { dataSystem: {} }),
};
const client = init(world.token, { ...options, ...uris, ...ways });

async function counts(flag) {
  const { variations } = await send('GET', `/environments/production/flags/${flag}/usage`);
  return Object.fromEntries(variations.map(({ variation, count }) => [variation, count]));
}

const value = (flag, context = user) => client.variation(flag, context, 'none');
const kindOf = async (flag) => (await client.variationDetail(flag, user, 'none')).reason.kind;

async function evaluates() {
  await client.waitForInitialization({ timeout: 20 });
  check('initialised', client.initialized(), true);
  check('boolean', await client.boolVariation('live-boolean', user, true), false);
  check('string', await client.stringVariation('live-string', user, 'none'), 'red');
  check('number', await client.numberVariation('live-number', user, 0), 1);
  check('json', await client.jsonVariation('live-json', user, {}), { a: [1, { b: null }] });
  const unknown = await client.variationDetail('unknown', user, 'none');
  check('unknown flag', [unknown.value, unknown.reason.errorKind], ['none', 'FLAG_NOT_FOUND']);
  const mistyped = await client.boolVariationDetail('live-string', user, true);
  check('wrong type', [mistyped.value, mistyped.reason.errorKind], [true, 'WRONG_TYPE']);
}

async function agrees() {
  const kinds = new Set();
  for (const { context, flags } of world.expected) {
    for (const [key, [expected, reason, ruleIndex]] of Object.entries(flags)) {
      const detail = await client.variationDetail(key, context, null);
      const is = [detail.value, detail.reason.kind, detail.reason.ruleIndex ?? null];
      const asked = [expected ?? null, reason, ruleIndex ?? null];
      if (!same(is, asked)) check(`${key} for ${JSON.stringify(context)}`, is, asked);
      kinds.add(reason);
    }
  }
  nChecks += 1;
  const all = ['FALLTHROUGH', 'OFF', 'PREREQUISITE_FAILED', 'RULE_MATCH', 'TARGET_MATCH'];
  check('every reason was among them', [...kinds].sort(), all);
}

async function follows() {
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v0' });
  if (!isPolling) await becomes('another fallthrough', () => value('live-boolean'), true);
  const clauses = [{ contextKind: 'user', attribute: 'plan', op: 'in', values: ['gold'] }];
  await change('live-rule', { kind: 'addRule', clauses, variation: 'v0' });
  if (!isPolling) await becomes('a rule', () => kindOf('live-rule'), 'RULE_MATCH');
  await change('live-number', { kind: 'turnFlagOff' });
  await becomes('off', () => kindOf('live-number'), 'OFF');
  await becomes('another fallthrough', () => value('live-boolean'), true);
  await becomes('a rule', () => kindOf('live-rule'), 'RULE_MATCH');
  check('not in the segment', await kindOf('live-segment'), 'FALLTHROUGH');
  await send('PUT', '/environments/production/segments/live', { key: 'live', included: ['live-user'] });
  await send('DELETE', '/flags/live-gone');
  await becomes('in the segment', () => kindOf('live-segment'), 'RULE_MATCH');
  await becomes('a flag that was deleted', () => kindOf('live-gone'), 'ERROR');
}

async function survives() {
  server('kill');
  const end = Date.now() + outageMs;
  do {
    check('values stay through an outage', await value('live-boolean'), true);
    await rest(200);
  } while (Date.now() < end);
  server('start');
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v1' });
  await becomes('catches up after an outage', () => value('live-boolean'), false);
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v0' });
  if (!isPolling) await becomes('follows after an outage', () => value('live-boolean'), true);
}

/** A second client, because the first reports nothing. */
async function reports() {
  const reporter = init(world.token, { ...options, ...uris, ...ways, sendEvents: true, flushInterval: 1 });
  await reporter.waitForInitialization({ timeout: 20 });
  const other = { kind: 'user', key: 'other-user' };
  const evaluate = async (times, flag, context) => {
    for (let i = 0; i < times; i += 1) await reporter.variation(flag, context, 'none');
  };
  await evaluate(7, 'live-string', user);
  await evaluate(5, 'live-rule', user);
  await reporter.flush();
  await evaluate(4, 'live-rule', other);
  await evaluate(3, 'nobody-has-it', other);
  reporter.track('bought', user, { amount: 2 }, 19.5);
  await reporter.flush();
  reporter.close();
  await becomes('what was evaluated is counted', () => counts('live-string'), { v0: 7 });
  await becomes('each variation is counted', () => counts('live-rule'), { v0: 5, v1: 4 });
  const unknown = async () => (await send('GET', '/environments/production/unknown-flags')).items.map(({ flag }) => flag);
  await becomes('an unknown flag is told', async () => (await unknown()).includes('nobody-has-it'), true);
}

let status = 0;
try {
  await evaluates();
  await agrees();
  await follows();
  await survives();
  await reports();
  console.log(`passed ${nChecks}`);
} catch (error) {
  console.log(`failed ${error.message}`);
  status = 1;
}
client.close();
process.exit(status);
