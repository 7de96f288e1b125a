// SDKs in a real browser: `browser.mjs classic|js-client|data-system|ofrep-web`.
//
// The page comes from another origin than the server's, so everything is cross-origin. What every program does and how it is
// run is in ../README.md; a page of `pages` puts its SDK into these words: `start`, `identify`, `detail`
// and, where it reports events, `report`.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const require = createRequire(`${process.env.SDKS_MODULES}/`);
const { buildSync } = require('esbuild');
const { chromium } = require('playwright-core');

// What a browser is asked to evaluate; the others of the world are compared over HTTP.
const IDENTIFIED_MAX = 25;
const PATIENCE_MS = 60_000;

const sdk = process.argv[2];
const isOfrep = sdk === 'ofrep-web';
const world = JSON.parse(readFileSync(process.env.SDKS_WORLD, 'utf8'));
const outageMs = Number(process.env.SDKS_OUTAGE_SECS) * 1000;
const user = { kind: 'user', key: 'live-user', targetingKey: 'live-user', plan: 'gold' };
let nChecks = 0;

const canonical = (value) =>
  JSON.stringify(value ?? null, (_, part) =>
    part && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
const same = (left, right) => canonical(left) === canonical(right);
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function check(what, is, expected) {
  if (!same(is, expected)) {
    throw new Error(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(expected)}`);
  }
  nChecks += 1;
}

async function becomes(what, ask, expected) {
  const deadline = Date.now() + PATIENCE_MS;
  let is = await ask();
  while (!same(is, expected) && Date.now() < deadline) {
    await rest(20);
    is = await ask();
  }
  check(what, is, expected);
}

async function send(method, path, body) {
  const answer = await fetch(world.url + path, {
    method,
    headers: { Authorization: `Bearer ${world.admin}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}
const shop = '/api/v1/projects/shop';
const production = `${shop}/environments/production`;
const change = (flag, ...instructions) => send('PATCH', `${production}/flags/${flag}`, { instructions });
const server = (what) => execFileSync(process.env.SDKS_SERVER, [what], { stdio: 'inherit' });

/** Lets browsers see all flags, and returns a token of theirs. */
async function openToBrowsers() {
  const seen = { kind: 'turnOnClientSideAvailability', value: 'usingEnvironmentId' };
  const live = ['boolean', 'rule', 'segment', 'gone', 'string', 'number', 'json'].map((name) => `live-${name}`);
  for (const key of [...Object.keys(world.expected[0].flags), ...live]) {
    await send('PATCH', `${shop}/flags/${key}`, { instructions: [seen] });
  }
  return (await send('POST', `${production}/tokens`, { name: 'browser', kind: 'client' })).token;
}

/** A server of pages at an origin of its own. */
async function servePage() {
  const name = sdk === 'data-system' ? 'js-client' : sdk;
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
const detail = (key, otherwise = 'none') => page.evaluate(([key, otherwise]) => window.sdk.detail(key, otherwise), [key, otherwise]);
const value = async (key, otherwise) => (await detail(key, otherwise)).value;
const reason = async (key, otherwise) => (await detail(key, otherwise)).reason;

async function evaluates() {
  check('boolean', await value('live-boolean', true), false);
  check('string', await value('live-string', 'none'), 'red');
  check('number', await value('live-number', 0), 1);
  check('json', await value('live-json', {}), { a: [1, { b: null }] });
  check('unknown flag', await detail('unknown', 'none'), { value: 'none', reason: 'FLAG_NOT_FOUND', ruleIndex: null });
}

/** All contexts over HTTP, and some by the SDK itself. */
async function agrees(token) {
  for (const [i, { context, flags }] of world.expected.entries()) {
    const encoded = Buffer.from(JSON.stringify(context)).toString('base64url');
    const answer = await fetch(`${world.url}/sdk/evalx/${token}/contexts/${encoded}?withReasons=true`);
    const values = await answer.json();
    for (const [key, [expected, reason, ruleIndex]] of Object.entries(flags)) {
      const { value, reason: given } = values[key];
      const is = [value, given.kind, given.ruleIndex ?? null];
      if (!same(is, [expected ?? null, reason, ruleIndex ?? null])) check(`${key} for ${encoded}`, is, flags[key]);
    }
    if (i < IDENTIFIED_MAX) await agreesInPage(context, flags);
  }
  nChecks += 1;
  await page.evaluate((context) => window.sdk.identify(context), user);
}

async function agreesInPage(context, flags) {
  await page.evaluate((context) => window.sdk.identify(context), context);
  for (const [key, [expected, reason, ruleIndex]] of Object.entries(flags)) {
    const otherwise = expected === null || Array.isArray(expected) ? {} : expected;
    const is = await detail(key, otherwise);
    const asked = { value: expected ?? otherwise, reason, ruleIndex: ruleIndex ?? null };
    if (!same(is, asked)) check(`${key} for ${JSON.stringify(context)} in the page`, is, asked);
  }
}

async function follows() {
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v0' });
  await becomes('another fallthrough', () => value('live-boolean', false), true);
  await send('POST', '/kill/live-boolean?project=shop&environment=production', {});
  await becomes('a kill', () => reason('live-boolean', false), 'OFF');
  await send('POST', '/restore/live-boolean?project=shop&environment=production', {});
  await becomes('a restore', () => value('live-boolean', false), true);
  const clauses = [{ contextKind: 'user', attribute: 'plan', op: 'in', values: ['gold'] }];
  await change('live-rule', { kind: 'addRule', clauses, variation: 'v0' });
  await becomes('a rule', () => reason('live-rule', true), 'RULE_MATCH');
  check('not in the segment', await reason('live-segment', true), 'FALLTHROUGH');
  await send('PUT', `${production}/segments/live`, { key: 'live', included: ['live-user'] });
  await becomes('in the segment', () => reason('live-segment', true), 'RULE_MATCH');
  await send('DELETE', `${shop}/flags/live-gone`);
  await becomes('a flag that was deleted', () => reason('live-gone', true), 'FLAG_NOT_FOUND');
}

async function survives() {
  server('kill');
  const end = Date.now() + outageMs;
  do {
    check('values stay through an outage', await value('live-boolean', false), true);
    await rest(200);
  } while (Date.now() < end);
  server('start');
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v1' });
  await becomes('catches up after an outage', () => value('live-boolean', true), false);
  await change('live-boolean', { kind: 'updateFallthroughVariationOrRollout', variation: 'v0' });
  await becomes('follows after an outage', () => value('live-boolean', false), true);
}

/** A client of its own in the page, because the other one reports nothing. */
async function reports(token) {
  const counts = async (flag) => {
    const { variations } = await send('GET', `${production}/flags/${flag}/usage`);
    return Object.fromEntries(variations.map(({ variation, count }) => [variation, count]));
  };
  const dataSystem = sdk === 'data-system';
  await page.evaluate((given) => window.sdk.report(given), { url: world.url, token, context: user, dataSystem });
  await becomes('what was evaluated is counted', () => counts('live-string'), { v0: 7 });
  await becomes('each variation is counted', () => counts('live-rule'), { v0: 5, v1: 4 });
  const unknown = async () => (await send('GET', `${production}/unknown-flags`)).items.map(({ flag }) => flag);
  await becomes('an unknown flag is told', async () => (await unknown()).includes('nobody-has-it'), true);
}

let status = 0;
const pages = await servePage();
try {
  const token = await openToBrowsers();
  browser = await chromium.launch({ executablePath: process.env.SDKS_CHROMIUM ?? '/usr/bin/chromium', args: quiet });
  page = await browser.newPage();
  page.on('console', (message) => console.error(message.text()));
  await page.goto(`http://localhost:${pages.address().port}/`);
  const given = { url: world.url, token, context: user, dataSystem: sdk === 'data-system' };
  await page.evaluate((given) => window.sdk.start(given), given);
  nChecks += 1;
  await evaluates();
  await agrees(token);
  await follows();
  await survives();
  if (!isOfrep) await reports(token);
  console.log(`passed ${nChecks}`);
} catch (error) {
  console.log(`failed ${error.message.split('\n')[0]}`);
  status = 1;
}
await browser?.close();
pages.close();
process.exit(status);
