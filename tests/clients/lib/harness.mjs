// What every JavaScript client shares: where the gateway is, the upstream's controls, and how a behaviour is reported.
// A behaviour is a function that throws when it is not met; what it returns is the detail shown beside it.

import assert from 'node:assert/strict';
import { appendFileSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export { assert, sleep };

const need = (name) => process.env[name] ?? assert.fail(`${name} is not set; start this through tests/clients/run`);
const standin = need('STANDIN_URL');
const deadlineMs = 30_000;

export const gateway = need('GATEWAY_URL');
export const key = need('GATEWAY_KEY');
export const wrongKey = 'sk-not-the-key';

/** A named model, and one that only the wildcard entry of the configuration knows. */
export const model = 'glm-4.7';
export const otherModel = 'vendor/some-model';
export const said = 'You said: "ping"';
export const toolResultArrived = "The tool's result arrived.";
/** A PNG of one pixel, and what the upstream says when it got all of it. */
export const pixel =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';
export const pixelSeen = `Images: 1 (${Buffer.from(pixel, 'base64').length} bytes).`;

/** The versions that are really installed. */
export const versions = (...names) =>
  names
    .map((name) => `${name} ${JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version}`)
    .join(', ');

/** One row of the table. */
export function client(name, version) {
  const report = (behaviour, ok, detail) =>
    appendFileSync(
      need('CLIENT_RESULTS'),
      JSON.stringify({ client: name, version, behaviour, ok, detail: String(detail ?? '').slice(0, 400) }) + '\n',
    );
  return {
    async check(behaviour, met) {
      try {
        await upstream.plays([]);
        await until(upstream.idle, 'the upstream to be idle before the check');
        report(behaviour, true, await within(deadlineMs, met()));
      } catch (fault) {
        report(behaviour, false, `${fault?.name}: ${fault?.message}`);
      }
    },
    /** A behaviour this client does not have. */
    lacks: (behaviour, why) => report(behaviour, null, why),
  };
}

/** The scriptable upstream behind the gateway. */
export const upstream = {
  /** Steps for the next requests; the last repeats, none means automatic answers. */
  async plays(steps) {
    const answer = await fetch(`${standin}/__standin/script`, { method: 'POST', body: JSON.stringify(steps) });
    assert.equal(answer.status, 200, await answer.text());
  },
  counts: async () => (await fetch(`${standin}/__standin/requests`)).json(),
  idle: async () => (await upstream.counts()).active === 0,
  busy: async () => (await upstream.counts()).active > 0,
};

const begun = JSON.parse(readFileSync(new URL('unfinished.json', import.meta.url)));

/** A stream that ends before its answer is over; if nothing else is said, as HTTP wants it. */
export const unfinished = (dialect, end = 'clean') => ({ kind: 'sse', frames: begun[dialect], end });

/** A stream in which the upstream reports an error. */
export const failing = (dialect) => ({
  kind: 'sse',
  frames: [...begun[dialect], ...begun.errors[dialect]],
  end: 'clean',
});

/** Busy once, with a second's patience asked for; then well again. */
export const busyOnce = [
  {
    kind: 'json',
    status: 429,
    headers: { 'retry-after': '1' },
    body: { error: { message: 'Busy.', type: 'rate_limit_error', code: 'rate_limit_exceeded', param: null } },
  },
  { kind: 'auto' },
];

/** Runs what meets `busyOnce`: it must ask twice, and not before the second is over. */
export async function waitsAsTold(call) {
  await upstream.plays(busyOnce);
  const before = (await upstream.counts()).requests;
  const begun = performance.now();
  await call();
  const waitedMs = Math.round(performance.now() - begun);
  assert.equal((await upstream.counts()).requests - before, 2, 'requests that reached the upstream');
  assert.ok(waitedMs >= 950, `asked again after ${waitedMs} ms, told to wait a second`);
  return `asked again after ${waitedMs} ms`;
}

/** The client leaves once `begun` is (a request that would never end); the upstream must be let go. */
export async function letsGo(begin, leave) {
  const begun = await begin();
  await until(upstream.busy, 'the upstream to be at work', 20_000);
  const left = performance.now();
  await leave(begun);
  await until(upstream.idle, 'the upstream to be let go', 2_000);
  return `upstream let go within ${Math.ceil(performance.now() - left)} ms`;
}

/** What the call throws; that it does throw is the point. */
export async function thrown(call) {
  let value;
  try {
    value = await call();
  } catch (fault) {
    return fault;
  }
  assert.fail(`no error, but ${JSON.stringify(value)?.slice(0, 200)}`);
}

export async function until(condition, what, ms = 5_000) {
  const end = performance.now() + ms;
  while (!(await condition())) {
    assert.ok(performance.now() < end, `waited ${ms} ms for ${what}`);
    await sleep(5);
  }
}

/** The numbers of an embedding of length one. */
export function isUnitVector(vector, length) {
  assert.equal(vector.length, length);
  const norm = Math.hypot(...vector);
  assert.ok(Math.abs(norm - 1) < 1e-3, `norm ${norm}`);
}

export function matches(text, ...parts) {
  for (const part of parts) assert.ok(text?.includes(part), `${JSON.stringify(part)} is not in ${JSON.stringify(text)}`);
}

function within(ms, promise) {
  const late = sleep(ms, undefined, { ref: false }).then(() => assert.fail(`not over after ${ms} ms`));
  return Promise.race([promise, late]);
}
