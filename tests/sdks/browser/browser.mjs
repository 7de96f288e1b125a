// SDKs in a real browser: `browser.mjs classic|classic-report|js-client|data-system|ofrep-web`.
//
// `classic-report` asks with REPORT, and because a browser's streams cannot, with the stream that only pings.
// The page comes from another origin than the server's, so everything is cross-origin. What every program does and how it is
// run is in ../README.md; a page of `pages` puts its SDK into these words: `start`, `identify`, `detail`
// and, where it reports events, `report`.

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import * as program from '../node/program.mjs';
import { becomes, check, same, send, serves, shop, world } from '../node/program.mjs';

const require = createRequire(`${process.env.SDKS_MODULES}/`);
const { buildSync } = require('esbuild');
const { chromium } = require('playwright-core');

// What a browser is asked to evaluate; the others of the world are compared over HTTP.
const IDENTIFIED_MAX = 25;

const sdk = process.argv[2];
const isOfrep = sdk === 'ofrep-web';
const isClassic = sdk.startsWith('classic');
const isReport = sdk === 'classic-report';
const user = { kind: 'user', key: 'live-user', targetingKey: 'live-user', plan: 'gold' };

/** A server of pages at an origin of its own. */
async function servePage() {
  const name = { 'data-system': 'js-client', 'classic-report': 'classic' }[sdk] ?? sdk;
  const entry = fileURLToPath(new URL(`pages/${name}.js`, import.meta.url));
  const nodePaths = [`${process.env.SDKS_MODULES}/node_modules`];
  const { outputFiles } = buildSync({ entryPoints: [entry], bundle: true, write: false, format: 'iife', nodePaths });
  const pages = createServer((request, response) => {
    const isScript = request.url === '/sdk.js';
    response.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? outputFiles[0].text : '<!doctype html><title>test</title><script src="/sdk.js"></script>');
  });
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  return pages;
}

const quiet = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
let browser;
let page;
/** Methods and paths of what the page has asked the server. */
const requests = new Set();
const detail = (key, otherwise = 'none') => page.evaluate(([key, otherwise]) => window.sdk.detail(key, otherwise), [key, otherwise]);
const value = async (key, otherwise) => (await detail(key, otherwise)).value;
const reason = async (key, otherwise) => (await detail(key, otherwise)).reason;

async function evaluates() {
  check('boolean', await value('live-boolean', true), false);
  check('string', await value('live-string', 'none'), 'red');
  check('number', await value('live-number', 0), 1);
  check('json', await value('live-json', {}), { a: [1, { b: null }] });
  check('unknown flag', await detail('unknown', 'none'), { value: 'none', reason: 'FLAG_NOT_FOUND', ruleIndex: null });
  const malformed = { value: 'none', reason: isOfrep ? 'PARSE_ERROR' : 'MALFORMED_FLAG', ruleIndex: null };
  check('malformed', await detail('live-malformed', 'none'), malformed);
  check('a big segment', await detail('live-big', 0), { value: 1, reason: 'FALLTHROUGH', ruleIndex: null });
}

/** All contexts over HTTP, and some by the SDK itself. */
async function agrees() {
  for (const [i, { context, flags }] of world.expected.entries()) {
    const encoded = Buffer.from(JSON.stringify(context)).toString('base64url');
    const answer = await fetch(`${world.url}/sdk/evalx/${given.token}/contexts/${encoded}?withReasons=true`);
    const values = await answer.json();
    for (const [key, [expected, , , reason]] of Object.entries(flags)) {
      const is = [values[key].value, values[key].reason];
      if (!same(is, [expected, reason])) check(`${key} for ${encoded}`, is, [expected, reason]);
    }
    if (i < IDENTIFIED_MAX) await agreesInPage(context, flags);
  }
  await page.evaluate((context) => window.sdk.identify(context), user);
}

/** At once, but with OpenFeature's provider, which serves what it kept for the same `targetingKey` until it is answered. */
async function agreesInPage(context, flags) {
  await page.evaluate((context) => window.sdk.identify(context), context);
  for (const [key, [expected, reason, ruleIndex]] of Object.entries(flags)) {
    const otherwise = expected === null || Array.isArray(expected) ? {} : expected;
    const ask = () => detail(key, otherwise);
    const asked = { value: expected ?? otherwise, reason, ruleIndex: ruleIndex ?? null };
    const what = `${key} for ${JSON.stringify(context)} in the page`;
    if (!same(await ask(), asked)) await becomes(what, ask, asked, isOfrep ? undefined : 0);
  }
}

async function follows() {
  await serves('live-boolean', 'v0');
  await becomes('another fallthrough', () => value('live-boolean', false), true);
  await send('POST', '/kill/live-boolean?project=shop&environment=production', {});
  await becomes('a kill', () => reason('live-boolean', false), 'OFF');
  await send('POST', '/restore/live-boolean?project=shop&environment=production', {});
  await becomes('a restore', () => value('live-boolean', false), true);
  await program.addRule();
  await becomes('a rule', () => reason('live-rule', true), 'RULE_MATCH');
  check('not in the segment', await reason('live-segment', true), 'FALLTHROUGH');
  await program.enterSegment();
  await becomes('in the segment', () => reason('live-segment', true), 'RULE_MATCH');
  await send('DELETE', `${shop}/flags/live-gone`);
  await becomes('a flag that was deleted', () => reason('live-gone', true), 'FLAG_NOT_FOUND');
}

async function survives() {
  await program.outage('values stay through an outage', () => value('live-boolean', false), true);
  await serves('live-boolean', 'v1');
  await becomes('catches up after an outage', () => value('live-boolean', true), false);
  await serves('live-boolean', 'v0');
  await becomes('follows after an outage', () => value('live-boolean', false), true);
}

/** Without `useReport` the SDK asks with GET and opens a stream of values, which would pass everything else as well. */
function asksWithReport() {
  const { token } = given;
  const expected = [`GET /ping/${token}`, `GET /sdk/goals/${token}`, `REPORT /sdk/evalx/${token}/context`];
  check('how the page has asked', [...requests].sort(), expected);
}

/** A client that gets its values with the page, and has no server that it could ask. */
async function bootstraps() {
  const context = Buffer.from(JSON.stringify(user)).toString('base64url');
  const headers = { Authorization: `Bearer ${world.token}` };
  const answer = await fetch(`${world.url}/api/v1/bootstrap?context=${context}&withReasons=true`, { headers });
  const values = await answer.json();
  const found = await page.evaluate(([given, values]) => window.sdk.bootstrap(given, values), [given, values]);
  check('values that come with the page', found, ['red', { kind: 'RULE_MATCH', ruleIndex: 0, ruleId: program.RULE_ID }]);
}

/** A client of its own in the page, because the other one reports nothing. */
async function reports() {
  await page.evaluate((given) => window.sdk.report(given), given);
  await program.checkCounts();
}

const pages = await servePage();
let given;

async function opens() {
  const token = await program.openToBrowsers();
  given = { url: world.url, token, context: user, other: program.OTHER, dataSystem: sdk === 'data-system', useReport: isReport };
  browser = await chromium.launch({ executablePath: process.env.SDKS_CHROMIUM ?? '/usr/bin/chromium', args: quiet });
  page = await browser.newPage();
  page.on('console', (message) => console.error(message.text()));
  page.on('request', (request) => {
    const { origin, pathname } = new URL(request.url());
    if (origin === new URL(world.url).origin) requests.add(`${request.method()} ${pathname}`);
  });
  await page.goto(`http://localhost:${pages.address().port}/`);
  await page.evaluate((given) => window.sdk.start(given), given);
  check('started', await page.evaluate(() => typeof window.sdk), 'object');
}

async function cleanUp() {
  await browser?.close();
  pages.close();
}

const more = [...(isReport ? [asksWithReport] : []), ...(isClassic ? [bootstraps] : []), ...(isOfrep ? [] : [reports])];
await program.run([opens, evaluates, agrees, follows, survives, ...more], cleanUp);
