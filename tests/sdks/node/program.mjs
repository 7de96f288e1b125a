// What all programs for Node.js and for browsers share: the world, the server, and checks. What each does is in ../README.md.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export const world = JSON.parse(readFileSync(process.env.SDKS_WORLD, 'utf8'));
export const outageMs = Number(process.env.SDKS_OUTAGE_SECS) * 1000;
export const shop = '/api/v1/projects/shop';
export const production = `${shop}/environments/production`;
export const REASONS = ['FALLTHROUGH', 'OFF', 'PREREQUISITE_FAILED', 'RULE_MATCH', 'TARGET_MATCH'];
/** OFREP's words for each reason. */
export const WORDS = {
  OFF: ['DEFAULT'],
  FALLTHROUGH: ['STATIC', 'DEFAULT', 'SPLIT'],
  RULE_MATCH: ['TARGETING_MATCH', 'SPLIT'],
  TARGET_MATCH: ['TARGETING_MATCH'],
  PREREQUISITE_FAILED: ['DEFAULT'],
};
/** The reason of an error, in LaunchDarkly's words. */
export const error = (errorKind) => ({ kind: 'ERROR', errorKind });
/** Who reports besides `live-user`; of two kinds, so that each event is about two. */
export const OTHER = { kind: 'multi', user: { key: 'other-user' }, organization: { key: 'live-shop' } };
const EVENTS_PATIENCE_MS = 60_000;

let nChecks = 0;
let note = '';

const canonical = (value) =>
  JSON.stringify(value ?? null, (_, part) =>
    part && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
export const same = (left, right) => canonical(left) === canonical(right);
export const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function check(what, is, expected) {
  if (!same(is, expected)) {
    throw new Error(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(expected)}`);
  }
  nChecks += 1;
}

/** Asks until the answer is the expected one, or patience ends. */
export async function becomes(what, ask, expected, patienceMs = EVENTS_PATIENCE_MS) {
  const deadline = Date.now() + patienceMs;
  let is = await ask();
  while (!same(is, expected) && Date.now() < deadline) {
    await rest(20);
    is = await ask();
  }
  check(what, is, expected);
}

export async function send(method, path, body) {
  const answer = await fetch(world.url + path, {
    method,
    headers: { Authorization: `Bearer ${world.admin}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}
export const change = (flag, ...instructions) => send('PATCH', `${production}/flags/${flag}`, { instructions });
export const serves = (flag, variation) =>
  change(flag, { kind: 'updateFallthroughVariationOrRollout', variation });
export const server = (what) => execFileSync(process.env.SDKS_SERVER, [what], { stdio: 'inherit' });

/** The id of the rule for those whose plan is gold. */
export const RULE_ID = 'gold';

/** Adds that rule to `live-rule`. */
export function addRule() {
  const clauses = [{ contextKind: 'user', attribute: 'plan', op: 'in', values: ['gold'] }];
  return change('live-rule', { kind: 'addRule', id: RULE_ID, clauses, variation: 'v0' });
}
export const enterSegment = () => send('PUT', `${production}/segments/live`, { key: 'live', included: ['live-user'] });

/** Keeps the server away for the outage, and looks again and again what `ask` says meanwhile. */
export async function outage(what, ask, expected) {
  server('kill');
  const end = Date.now() + outageMs;
  do {
    check(what, await ask(), expected);
    await rest(200);
  } while (Date.now() < end);
  server('start');
}

/** Calls `visit` with each context and flag of the world, what OFREP has answered, and the whole reason, and checks that every reason was among them. */
export async function eachExpected(visit) {
  const kinds = new Set();
  for (const { context, flags } of world.expected) {
    const visits = [];
    for (const [key, [value, reason, ruleIndex, whole]] of Object.entries(flags)) {
      kinds.add(reason);
      visits.push(visit(context, key, [value, reason, ruleIndex ?? null], whole));
    }
    await Promise.all(visits);
  }
  check('every reason was among them', [...kinds].sort(), REASONS);
}

/** Counts how many of the cases at the edge of a slice come out as on the server, which reckons in single precision. */
export async function countEdges(evaluate) {
  let nSame = 0;
  for (const { context, key, value } of world.edges) nSame += same(await evaluate(key, context), value);
  note = `, ${nSame} of ${world.edges.length} at the edge of a slice as on the server`;
}

/** What the server has counted after each SDK's `report`: 7 of `live-string`, 5 and 4 of `live-rule`, and an unknown flag. */
export async function checkCounts() {
  const counts = async (flag) => {
    const { variations } = await send('GET', `${production}/flags/${flag}/usage`);
    return Object.fromEntries(variations.map(({ variation, count }) => [variation, count]));
  };
  await becomes('what was evaluated is counted', () => counts('live-string'), { v0: 7 });
  await becomes('each variation is counted', () => counts('live-rule'), { v0: 5, v1: 4 });
  const unknown = async () => (await send('GET', `${production}/unknown-flags`)).items.map(({ flag }) => flag);
  await becomes('an unknown flag is told', async () => (await unknown()).includes('nobody-has-it'), true);
}

/** Lets browsers see all flags, and returns a token of theirs. */
export async function openToBrowsers() {
  const seen = { kind: 'turnOnClientSideAvailability', value: 'usingEnvironmentId' };
  const names = ['boolean', 'rule', 'segment', 'gone', 'string', 'number', 'json', 'malformed', 'big'];
  const live = names.map((name) => `live-${name}`);
  for (const key of [...Object.keys(world.expected[0].flags), ...live]) {
    await send('PATCH', `${shop}/flags/${key}`, { instructions: [seen] });
  }
  return (await send('POST', `${production}/tokens`, { name: 'browser', kind: 'client' })).token;
}

/** Runs the parts of a program, tells how it went, and ends the process. */
export async function run(parts, cleanUp = () => {}) {
  let status = 0;
  try {
    for (const part of parts) await part();
    console.log(`passed ${nChecks} checks${note}`);
  } catch (error) {
    console.log(`failed ${error.message.split('\n')[0]}`);
    status = 1;
  }
  await cleanUp();
  process.exit(status);
}
