// LaunchDarkly's client-side SDK for Node.js (`launchdarkly-node-client-sdk`).
//
// What every program does and how it is run is in ../README.md.

import { mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as program from './program.mjs';
import { becomes, change, check, same, send, serves, shop, world } from './program.mjs';

const require = createRequire(`${process.env.SDKS_MODULES}/`);
const { initialize } = require('launchdarkly-node-client-sdk');

// Each context that it is asked to evaluate is a request and a stream of its own; the others are asked for by programs alike.
const IDENTIFIED_MAX = 200;
const user = { kind: 'user', key: 'live-user', plan: 'gold' };
const logger = { debug() {}, info() {}, warn() {}, error() {} };
const localStoragePath = mkdtempSync(join(tmpdir(), 'vexil-sdk-'));
const uris = { baseUrl: world.url, streamUrl: world.url, eventsUrl: world.url };
let token;
let client;

async function starts() {
  token = await program.openToBrowsers();
  const options = { ...uris, logger, localStoragePath, evaluationReasons: true, streaming: true, sendEvents: false };
  client = initialize(token, user, { ...options, diagnosticOptOut: true });
  await client.waitForInitialization(20);
}

const value = (flag, otherwise = 'none') => client.variation(flag, otherwise);
const kindOf = (flag) => client.variationDetail(flag, 'none').reason?.kind;

async function evaluates() {
  check('boolean', value('live-boolean', true), false);
  check('string', value('live-string'), 'red');
  check('number', value('live-number', 0), 1);
  check('json', value('live-json', {}), { a: [1, { b: null }] });
  check('unknown flag', client.variationDetail('unknown', 'none').reason, program.error('FLAG_NOT_FOUND'));
  const malformed = client.variationDetail('live-malformed', 'none');
  check('malformed', [malformed.value, malformed.reason], ['none', program.error('MALFORMED_FLAG')]);
  const big = client.variationDetail('live-big', 'none');
  check('a big segment', [big.value, big.reason], [1, { kind: 'FALLTHROUGH', bigSegmentsStatus: 'NOT_CONFIGURED' }]);
}

async function agrees() {
  for (const { context, flags } of world.expected.slice(0, IDENTIFIED_MAX)) {
    await client.identify(context);
    for (const [key, [expected, , , reason]] of Object.entries(flags)) {
      const detail = client.variationDetail(key, null);
      const [is, asked] = [[detail.value, detail.reason], [expected, reason]];
      if (!same(is, asked)) check(`${key} for ${JSON.stringify(context)}`, is, asked);
    }
  }
  await client.identify(user);
}

async function follows() {
  await serves('live-boolean', 'v0');
  await becomes('another fallthrough', () => value('live-boolean'), true);
  await program.addRule();
  await becomes('a rule', () => kindOf('live-rule'), 'RULE_MATCH');
  await change('live-number', { kind: 'turnFlagOff' });
  await becomes('off', () => kindOf('live-number'), 'OFF');
  await program.enterSegment();
  await becomes('in the segment', () => kindOf('live-segment'), 'RULE_MATCH');
  await send('DELETE', `${shop}/flags/live-gone`);
  await becomes('a flag that was deleted', () => kindOf('live-gone'), 'ERROR');
}

async function survives() {
  await program.outage('values stay through an outage', () => value('live-boolean'), true);
  await serves('live-boolean', 'v1');
  await becomes('catches up after an outage', () => value('live-boolean'), false);
  await serves('live-boolean', 'v0');
  await becomes('follows after an outage', () => value('live-boolean'), true);
}

/** A second client, because the first reports nothing. */
async function reports() {
  const options = { ...uris, logger, localStoragePath, flushInterval: 2000, sendEventsOnlyForVariation: true };
  const reporter = initialize(token, user, options);
  await reporter.waitForInitialization(20);
  const evaluate = (times, flag) => {
    for (let i = 0; i < times; i += 1) reporter.variation(flag, 'none');
  };
  evaluate(7, 'live-string');
  evaluate(5, 'live-rule');
  for (let i = 0; i < 2; i += 1) reporter.track('bought', { amount: 2 }, 19.5);
  await reporter.identify(program.OTHER);
  evaluate(4, 'live-rule');
  evaluate(3, 'nobody-has-it');
  reporter.track('looked');
  await reporter.flush();
  await reporter.close();
  await program.checkCounts();
}

await program.run([starts, evaluates, agrees, follows, survives, reports], () => client?.close());
