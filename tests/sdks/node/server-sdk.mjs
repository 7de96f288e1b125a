// LaunchDarkly's server-side SDK for Node.js: `server-sdk.mjs streaming|polling|data-system`.
//
// What every program does and how it is run is in ../README.md.

import { createRequire } from 'node:module';
import * as program from './program.mjs';
import { becomes, change, check, same, send, serves, shop, world } from './program.mjs';

const require = createRequire(`${process.env.SDKS_MODULES}/`);
const { init } = require('@launchdarkly/node-server-sdk');

const mode = process.argv[2];
const isPolling = mode === 'polling';
// The shortest interval that the SDK allows is 30 s.
const patienceMs = isPolling ? 75_000 : 45_000;
const user = { kind: 'user', key: 'live-user', plan: 'gold' };

const options = { sendEvents: false, diagnosticOptOut: true, logger: { debug() {}, info() {}, warn() {}, error() {} } };
const uris = { baseUri: world.url, streamUri: world.url, eventsUri: world.url };
const ways = {
  ...(isPolling && { stream: false, pollInterval: 30 }),
  ...(mode === 'data-system' && { dataSystem: {} }),
};
const client = init(world.token, { ...options, ...uris, ...ways });

const value = (flag, context = user) => client.variation(flag, context, 'none');
const kindOf = async (flag) => (await client.variationDetail(flag, user, 'none')).reason.kind;
const valueBecomes = (what, expected) => becomes(what, () => value('live-boolean'), expected, patienceMs);
const kindBecomes = (what, flag, expected) => becomes(what, () => kindOf(flag), expected, patienceMs);

async function evaluates() {
  check('before it is ready', (await client.variationDetail('live-string', user, 'none')).reason, program.error('CLIENT_NOT_READY'));
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
  const malformed = await client.variationDetail('live-malformed', user, 'none');
  check('malformed', [malformed.value, malformed.reason], ['none', program.error('MALFORMED_FLAG')]);
  const nobody = await client.variationDetail('live-string', { kind: 'user', key: '' }, 'none');
  check('for nobody', [nobody.value, nobody.reason], ['none', program.error('USER_NOT_SPECIFIED')]);
  const big = await client.variationDetail('live-big', user, 'none');
  check('a big segment, which is sent as an ordinary one', [big.value, big.reason], [1, { kind: 'FALLTHROUGH' }]);
}

async function agrees() {
  await program.eachExpected(async (context, key, [expected], reason) => {
    const detail = await client.variationDetail(key, context, null);
    const [is, asked] = [[detail.value, detail.reason], [expected, reason]];
    if (!same(is, asked)) check(`${key} for ${JSON.stringify(context)}`, is, asked);
  });
  // JavaScript reckons in double precision.
  await program.countEdges((key, context) => client.variation(key, context, null));
}

async function follows() {
  await serves('live-boolean', 'v0');
  if (!isPolling) await valueBecomes('another fallthrough', true);
  await program.addRule();
  if (!isPolling) await kindBecomes('a rule', 'live-rule', 'RULE_MATCH');
  await change('live-number', { kind: 'turnFlagOff' });
  await kindBecomes('off', 'live-number', 'OFF');
  await valueBecomes('another fallthrough', true);
  await kindBecomes('a rule', 'live-rule', 'RULE_MATCH');
  check('not in the segment', await kindOf('live-segment'), 'FALLTHROUGH');
  await program.enterSegment();
  await send('DELETE', `${shop}/flags/live-gone`);
  await change('live-number', { kind: 'turnFlagOn' });
  await kindBecomes('in the segment', 'live-segment', 'RULE_MATCH');
  await kindBecomes('a flag that was deleted', 'live-gone', 'ERROR');
  await kindBecomes('on', 'live-number', 'FALLTHROUGH');
}

async function survives() {
  await program.outage('values stay through an outage', () => value('live-boolean'), true);
  await serves('live-boolean', 'v1');
  await valueBecomes('catches up after an outage', false);
  await serves('live-boolean', 'v0');
  if (!isPolling) await valueBecomes('follows after an outage', true);
}

/** A second client, because the first reports nothing. */
async function reports() {
  const reporter = init(world.token, { ...options, ...uris, ...ways, sendEvents: true, flushInterval: 1 });
  await reporter.waitForInitialization({ timeout: 20 });
  const other = program.OTHER;
  const evaluate = async (times, flag, context) => {
    for (let i = 0; i < times; i += 1) await reporter.variation(flag, context, 'none');
  };
  await evaluate(7, 'live-string', user);
  await evaluate(5, 'live-rule', user);
  await reporter.flush();
  await evaluate(4, 'live-rule', other);
  await evaluate(3, 'nobody-has-it', other);
  for (let i = 0; i < 2; i += 1) reporter.track('bought', user, { amount: 2 }, 19.5);
  reporter.track('looked', other);
  await reporter.flush();
  reporter.close();
  await program.checkCounts();
}

await program.run([evaluates, agrees, follows, survives, reports], () => client.close());
