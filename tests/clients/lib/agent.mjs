// A headless agent: a command that is given a prompt, calls its own tools, and prints events as lines of JSON.
// Agents stream always, and most ask again by themselves after a failure. So what must never happen is that a run over a
// broken stream ends well without the whole answer; an error and a second, whole answer are both fine.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  assert, busyOnce, failing, letsGo, matches, model, pixel, pixelSeen, said, toolResultArrived, unfinished,
  until, upstream, wrongKey,
} from './harness.mjs';

const runSeconds = 28;

// Outside of any repository: agents tell the model about the one they are in.
const folder = mkdtempSync(join(tmpdir(), 'nanogate-agent-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
export const image = join(process.env.CLIENT_WORK, 'pixel.png');
export const schema = {
  type: 'object',
  properties: { name: { type: 'string' }, count: { type: 'integer' } },
  required: ['name', 'count'],
  additionalProperties: false,
};
writeFileSync(image, Buffer.from(pixel, 'base64'));

/** Starts it; `ended` has the exit code and everything it printed. */
export function start([command, ...args], environment = {}, input = '') {
  const child = spawn(command, args, { cwd: folder, env: { ...process.env, ...environment }, detached: true });
  const end = () => {
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It is gone already.
    }
  };
  const late = setTimeout(end, runSeconds * 1000);
  let printed = '';
  for (const output of [child.stdout, child.stderr]) output.on('data', (piece) => (printed += piece));
  child.stdin.end(input);
  const ended = new Promise((resolve) => {
    child.on('close', (code) => {
      clearTimeout(late);
      resolve({ code, printed });
    });
  });
  return { ended, end };
}

/** The lines that are JSON objects. */
export const events = (printed) =>
  printed.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));

/**
 * `run(prompt, options)` starts the agent; options: model, key, tools (whether it may use any), image, schema.
 * `answer(printed)` is the last text it said, `failure(printed)` the error it showed, `object(printed)` what fits a schema,
 * `objectSteps` what the upstream plays for one, if it would not by itself.
 */
export async function agent(row, { run, answer, failure, object, objectSteps = [], dialect, retries429 }) {
  const well = async (options) => {
    const { code, printed } = await run('ping', options).ended;
    assert.equal(code, 0, printed.slice(-500));
    return printed;
  };
  const refused = async (options, ...words) => {
    const { code, printed } = await run('ping', options).ended;
    assert.ok(code > 0, `exit status ${code}`);
    matches(failure(printed), ...words);
    return failure(printed);
  };
  const brokenOff = async (fault) => {
    await upstream.plays([fault, { kind: 'auto' }]);
    const { code, printed } = await run('ping', { model }).ended;
    if (code === 0) {
      matches(answer(printed), said);
      return 'asked again and gave the whole answer';
    }
    assert.ok(code > 0 && failure(printed), `exit status ${code}, no error shown: ${printed.slice(-300)}`);
    return `exit status ${code}: ${failure(printed)}`;
  };

  row.lacks('models', 'it does not ask');
  row.lacks('plain', 'it always streams');
  row.lacks('embeddings', 'it uses none');
  await row.check('stream', async () => matches(answer(await well({ model })), said));
  await row.check('tools', async () => matches(answer(await well({ model, tools: true })), toolResultArrived, said));
  if (object) {
    await row.check('structured', async () => {
      await upstream.plays(objectSteps);
      assert.deepEqual(object(await well({ model, schema })), { name: 'example', count: 1 });
    });
  } else row.lacks('structured', 'it has no option for it');
  await row.check('images', async () => matches(answer(await well({ model, image })), pixelSeen));
  await row.check('abort', async () => {
    await upstream.plays([unfinished(dialect, 'stall')]);
    return letsGo(() => run('ping', { model }), (running) => running.end());
  });
  await row.check('401', () => refused({ model, key: wrongKey }, 'Invalid api key'));
  await row.check('429', () => refused({ model: 'standin/error-429', noRetries: true }, '429'));
  if (retries429) {
    await row.check('retry-after', async () => {
      await upstream.plays(busyOnce);
      const before = (await upstream.counts()).requests;
      const asked = async (times) => (await upstream.counts()).requests >= before + times;
      const running = run('ping', { model });
      await until(() => asked(1), 'the request', 20_000);
      const refusedAt = performance.now();
      await until(() => asked(2), 'the second request', 20_000);
      const waitedMs = Math.round(performance.now() - refusedAt);
      assert.ok(waitedMs >= 950, `asked again after ${waitedMs} ms, told to wait a second`);
      matches(answer((await running.ended).printed), said);
      return `asked again after ${waitedMs} ms`;
    });
  } else row.lacks('retry-after', 'it does not ask again after a 429');
  await row.check('cut', () => brokenOff(unfinished(dialect, 'cut')));
  await row.check('reset', () => brokenOff(unfinished(dialect, 'reset')));
  await row.check('early end', () => brokenOff(unfinished(dialect)));
  await row.check('error frame', () => brokenOff(failing(dialect)));
}
