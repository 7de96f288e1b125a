// OpenFeature's server-side SDK for Node.js: `ofrep.mjs provider|core`.
//
// `provider` is the SDK with its provider for OFREP; `core` is the client of OFREP on which newer providers stand, alone. What
// every program does and how it is run is in ../README.md.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isDeepStrictEqual } from 'node:util';

const require = createRequire(`${process.env.SDKS_MODULES}/`);

const PATIENCE_MS = 45_000;
const world = JSON.parse(readFileSync(process.env.SDKS_WORLD, 'utf8'));
const outageMs = Number(process.env.SDKS_OUTAGE_SECS) * 1000;
const user = { targetingKey: 'live-user', plan: 'gold' };
const headers = [['Authorization', `Bearer ${world.token}`]];
let nChecks = 0;

const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function check(what, is, expected) {
  if (!isDeepStrictEqual(is, expected)) {
    throw new Error(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(expected)}`);
  }
  nChecks += 1;
}

async function send(method, path, body) {
  const answer = await fetch(`${world.url}/api/v1/projects/shop${path}`, {
    method,
    headers: { Authorization: `Bearer ${world.admin}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
}
const change = (flag, ...instructions) =>
  send('PATCH', `/environments/production/flags/${flag}`, { instructions });
const server = (what) => execFileSync(process.env.SDKS_SERVER, [what], { stdio: 'inherit' });

/** The SDK, put into a function from a flag, a default and a context to what became of it. */
async function connectProvider() {
  const { OpenFeature } = require('@openfeature/server-sdk');
  const { OFREPProvider } = require('@openfeature/ofrep-provider');
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: world.url, headers }));
  const client = OpenFeature.getClient();
  const ask = { boolean: 'getBooleanDetails', string: 'getStringDetails', number: 'getNumberDetails', object: 'getObjectDetails' };
  return (key, otherwise, context) => client[ask[typeof otherwise]](key, otherwise, context);
}

async function connectCore() {
  const { OFREPApi, handleEvaluationError, toResolutionDetails } = require('ofrep-core-2');
  const api = new OFREPApi({ baseUrl: world.url, headers });
  return async (key, otherwise, context) => {
    try {
      const answer = await api.postEvaluateFlag(key, { context });
      if (answer.httpStatus !== 200) return handleEvaluationError(answer.value, otherwise);
      return toResolutionDetails(answer.value, otherwise);
    } catch (error) {
      // As the SDK does with what a provider throws.
      return { value: otherwise, reason: 'ERROR', errorCode: error.code ?? 'GENERAL' };
    }
  };
}

const detail = process.argv[2] === 'core' ? await connectCore() : await connectProvider();
const value = async (key, otherwise) => (await detail(key, otherwise, user)).value;

async function evaluates() {
  const boolean = await detail('live-boolean', true, user);
  check('boolean', [boolean.value, boolean.variant, boolean.reason], [false, 'v1', 'STATIC']);
  check('string', await value('live-string', 'none'), 'red');
  check('number', await value('live-number', 0), 1);
  check('json', await value('live-json', {}), { a: [1, { b: null }] });
  const unknown = await detail('unknown', 'none', user);
  check('unknown flag', [unknown.value, unknown.errorCode], ['none', 'FLAG_NOT_FOUND']);
  check('wrong type', [await value('live-string', true), (await detail('live-string', true, user)).errorCode], [true, 'TYPE_MISMATCH']);
}

const WORDS = {
  OFF: ['DEFAULT'],
  FALLTHROUGH: ['STATIC', 'DEFAULT', 'SPLIT'],
  RULE_MATCH: ['TARGETING_MATCH', 'SPLIT'],
  TARGET_MATCH: ['TARGETING_MATCH'],
  PREREQUISITE_FAILED: ['DEFAULT'],
};

async function agrees() {
  const kinds = new Set();
  for (const { context, flags } of world.expected) {
    for (const [key, [expected, reason, ruleIndex]] of Object.entries(flags)) {
      const found = await detail(key, expected, context);
      const { metadata, flagMetadata = metadata } = found;
      const is = [found.value, flagMetadata?.reason, flagMetadata?.ruleIndex ?? null];
      const asked = [expected, reason, ruleIndex ?? null];
      if (!isDeepStrictEqual(is, asked)) check(`${key} for ${JSON.stringify(context)}`, is, asked);
      if (!WORDS[reason].includes(found.reason)) check(`why ${key} for ${JSON.stringify(context)}`, found.reason, WORDS[reason]);
      kinds.add(reason);
    }
  }
  check('every reason was among them', [...kinds].sort(), Object.keys(WORDS).sort());
}

/** Each change is there as soon as it has been acknowledged. */
async function follows() {
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v0' });
  check('another fallthrough', await value('live-boolean', false), true);
  const clauses = [{ contextKind: 'user', attribute: 'plan', op: 'in', values: ['gold'] }];
  await change('live-rule', { kind: 'addRule', clauses, variation: 'v0' });
  const rule = await detail('live-rule', false, user);
  check('a rule', [rule.value, rule.reason], [true, 'TARGETING_MATCH']);
  await change('live-string', { kind: 'turnFlagOff' });
  check('off', (await detail('live-string', 'none', user)).reason, 'DEFAULT');
  await send('PUT', '/environments/production/segments/live', { key: 'live', included: ['live-user'] });
  check('in the segment', (await detail('live-segment', false, user)).reason, 'TARGETING_MATCH');
  await send('DELETE', '/flags/live-gone');
  check('a flag that was deleted', (await detail('live-gone', true, user)).errorCode, 'FLAG_NOT_FOUND');
}

async function survives() {
  server('kill');
  const end = Date.now() + outageMs;
  do {
    const { value, reason, errorCode } = await detail('live-boolean', false, user);
    check('the default and an error in an outage', [value, reason, errorCode], [false, 'ERROR', 'GENERAL']);
    await rest(200);
  } while (Date.now() < end);
  server('start');
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await value('live-boolean', false)) && Date.now() < deadline) await rest(20);
  check('answers after an outage', await value('live-boolean', false), true);
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v1' });
  check('follows after an outage', await value('live-boolean', true), false);
}

let status = 0;
try {
  await evaluates();
  await agrees();
  await follows();
  await survives();
  console.log(`passed ${nChecks}`);
} catch (error) {
  console.log(`failed ${error.message}`);
  status = 1;
}
process.exit(status);
