// OpenFeature's server-side SDK for Node.js: `ofrep.mjs provider|core`.
//
// `provider` is the SDK with its provider for OFREP; `core` is the client of OFREP on which newer providers stand, alone. What
// every program does and how it is run is in ../README.md.

import { createRequire } from 'node:module';
import * as program from './program.mjs';
import { becomes, change, check, same, send, serves, shop, world } from './program.mjs';

const require = createRequire(`${process.env.SDKS_MODULES}/`);

const user = { targetingKey: 'live-user', plan: 'gold' };
const headers = [['Authorization', `Bearer ${world.token}`]];

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
  const malformed = await detail('live-malformed', 'none', user);
  check('malformed', [malformed.value, malformed.errorCode], ['none', 'PARSE_ERROR']);
  const nobody = await detail('flag-19', {}, { plan: 'gold' });
  check('divided without a key', [nobody.value, nobody.errorCode], [{}, 'TARGETING_KEY_MISSING']);
}

const agrees = () =>
  program.eachExpected(async (context, key, expected) => {
    const [like, reason] = expected;
    const found = await detail(key, like, context);
    const { metadata, flagMetadata = metadata } = found;
    const is = [found.value, flagMetadata?.reason, flagMetadata?.ruleIndex ?? null];
    if (!same(is, expected)) check(`${key} for ${JSON.stringify(context)}`, is, expected);
    const words = program.WORDS[reason];
    if (!words.includes(found.reason)) check(`why ${key} for ${JSON.stringify(context)}`, found.reason, words);
  });

/** Each change is there as soon as it has been acknowledged. */
async function follows() {
  await serves('live-boolean', 'v0');
  check('another fallthrough', await value('live-boolean', false), true);
  await program.addRule();
  const rule = await detail('live-rule', false, user);
  check('a rule', [rule.value, rule.reason], [true, 'TARGETING_MATCH']);
  await change('live-string', { kind: 'turnFlagOff' });
  check('off', (await detail('live-string', 'none', user)).reason, 'DEFAULT');
  await change('live-string', { kind: 'turnFlagOn' });
  check('on', (await detail('live-string', 'none', user)).reason, 'STATIC');
  await program.enterSegment();
  check('in the segment', (await detail('live-segment', false, user)).reason, 'TARGETING_MATCH');
  await send('DELETE', `${shop}/flags/live-gone`);
  check('a flag that was deleted', (await detail('live-gone', true, user)).errorCode, 'FLAG_NOT_FOUND');
}

async function survives() {
  const given = async () => {
    const { value, reason, errorCode } = await detail('live-boolean', false, user);
    return [value, reason, errorCode];
  };
  await program.outage('the default and an error in an outage', given, [false, 'ERROR', 'GENERAL']);
  await becomes('answers after an outage', () => value('live-boolean', false), true);
  await serves('live-boolean', 'v1');
  check('follows after an outage', await value('live-boolean', true), false);
}

await program.run([evaluates, agrees, follows, survives]);
