// A Next.js app (app router, a streamText route, a useChat page), built and served; asked as the page would ask, by the
// AI SDK's own chat transport.

import { spawn } from 'node:child_process';
import { AbstractChat, DefaultChatTransport } from 'ai';
import {
  assert, client, failing, letsGo, matches, model, otherModel, pixel, pixelSeen, said, toolResultArrived, unfinished,
  until, upstream, versions, waitsAsTold, wrongKey,
} from '../lib/harness.mjs';

const next = 'node_modules/.bin/next';
const environment = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' };
const run = (...args) => spawn(next, args, { env: environment, stdio: ['ignore', 'pipe', 'inherit'] });

const building = run('build');
building.stdout.pipe(process.stdout);
const built = await new Promise((resolve) => building.on('close', resolve));
assert.equal(built, 0, 'next build');
const server = run('start', '--hostname', '127.0.0.1', '--port', '0');
process.on('exit', () => server.kill('SIGKILL'));
let app;
server.stdout.on('data', (said) => {
  process.stdout.write(said);
  app ??= String(said).match(/http:\/\/127\.0\.0\.1:\d+/)?.[0];
});
await until(() => app && fetch(app).then((answer) => answer.ok, () => false), 'the app to be ready', 30_000);

/** The chat of a page without the page: its state is a few plain fields. */
class Chat extends AbstractChat {
  constructor() {
    const state = {
      status: 'ready', error: undefined, messages: [],
      pushMessage: (message) => state.messages.push(message),
      popMessage: () => state.messages.pop(),
      replaceMessage: (index, message) => { state.messages[index] = message; },
      snapshot: (thing) => structuredClone(thing),
    };
    super({ state, transport: new DefaultChatTransport({ api: `${app}/api/chat` }), generateId: () => crypto.randomUUID() });
  }

  get text() {
    return this.messages.at(-1).parts.filter(({ type }) => type === 'text').map(({ text }) => text).join('');
  }
}

async function ask(body, parts = [{ type: 'text', text: 'ping' }]) {
  const chat = new Chat();
  await chat.sendMessage({ role: 'user', parts }, { body: { model, maxRetries: 0, ...body } });
  return chat;
}

async function fails(body, ...words) {
  const chat = await ask(body);
  assert.equal(chat.status, 'error', `status ${chat.status}, ${JSON.stringify(chat.messages.at(-1))}`);
  matches(chat.error.message, ...words);
  return chat.error.message;
}

const row = client('Next.js app', versions('next', 'ai', '@ai-sdk/react', '@ai-sdk/openai-compatible'));
for (const behaviour of ['models', 'plain', 'structured', 'embeddings']) row.lacks(behaviour, 'the app does not use it');
await row.check('stream', async () => {
  matches(await (await fetch(app)).text(), 'Ask');
  for (const name of [model, otherModel]) {
    const chat = await ask({ model: name });
    assert.equal(chat.status, 'ready', chat.error?.message);
    matches(chat.text, said);
  }
  await upstream.plays([{ kind: 'auto', gap_ms: 40 }]);
  const pieces = [];
  const messages = [{ id: '1', role: 'user', parts: [{ type: 'text', text: 'ping' }] }];
  const answer = await fetch(`${app}/api/chat`, { method: 'POST', body: JSON.stringify({ messages, model }) });
  for await (const piece of answer.body) pieces.push(piece);
  assert.ok(pieces.length > 5, `the answer came in ${pieces.length} pieces`);
  return `${pieces.length} pieces`;
});
await row.check('tools', async () => {
  const chat = await ask({ tools: true }, [{ type: 'text', text: 'weather?' }]);
  const call = chat.messages.at(-1).parts.find(({ type }) => type === 'tool-weather');
  assert.deepEqual([call.input, call.output], [{ city: 'example' }, 'rain in example']);
  matches(chat.text, toolResultArrived);
});
await row.check('images', async () => {
  const image = { type: 'file', mediaType: 'image/png', url: `data:image/png;base64,${pixel}` };
  matches((await ask({}, [{ type: 'text', text: 'ping' }, image])).text, pixelSeen, said);
});
await row.check('abort', async () => {
  await upstream.plays([unfinished('chat', 'stall')]);
  const chat = new Chat();
  return letsGo(
    async () => {
      chat.sendMessage({ role: 'user', parts: [{ type: 'text', text: 'ping' }] }, { body: { model } });
      await until(() => chat.status === 'streaming' && chat.text, 'the answer to begin');
    },
    () => chat.stop(),
  );
});
await row.check('401', () => fails({ wrongKey }, '401', 'Invalid api key'));
await row.check('429', () => fails({ model: 'standin/error-429' }, '429', 'Rate limit exceeded'));
await row.check('retry-after', () => waitsAsTold(async () => matches((await ask({ maxRetries: 2 })).text, said)));
for (const [behaviour, fault, words] of [
  ['cut', unfinished('chat', 'cut'), 'broke in the middle'],
  ['reset', unfinished('chat', 'reset'), 'broke in the middle'],
  ['early end', unfinished('chat'), 'without finishing'],
  ['error frame', failing('chat'), 'The provider failed'],
]) {
  await row.check(behaviour, async () => {
    await upstream.plays([fault]);
    return fails({}, words);
  });
}
process.exit(0);
