// @anthropic-ai/sdk: messages against the gateway's /v1/messages.

import Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { z } from 'zod';
import {
  assert, client, gateway, key, letsGo, matches, model, otherModel, pixel, pixelSeen, said, thrown, toolResultArrived,
  unfinished, upstream, versions, waitsAsTold, wrongKey,
} from '../lib/harness.mjs';

const row = client('anthropic-node', versions('@anthropic-ai/sdk'));
const connect = (options) => new Anthropic({ baseURL: gateway, apiKey: key, maxRetries: 0, ...options });
const sdk = connect();
const user = (content) => [{ role: 'user', content }];
const ask = (model, more) => ({ model, max_tokens: 200, messages: user('ping'), ...more });
const tools = [
  {
    name: 'weather',
    input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
];

async function read(body, seen) {
  for await (const event of await sdk.messages.create({ ...body, stream: true })) {
    seen.chunks = (seen.chunks ?? 0) + 1;
    if (event.type === 'message_start') seen.model = event.message.model;
    if (event.type === 'content_block_delta') seen.text += event.delta.text;
    if (event.type === 'message_delta') seen.finish = event.delta.stop_reason;
  }
  return seen;
}

async function brokenOff(name) {
  const seen = { text: '' };
  const fault = await thrown(() => read(ask(name), seen));
  assert.ok(seen.text.length > 0, `nothing was seen before ${fault}`);
  assert.ok(!seen.finish, `finished with ${seen.finish}`);
  return `${fault.constructor.name} after ${seen.text.length} characters: ${fault.message}`;
}

await row.check('models', async () => {
  const names = [];
  for await (const entry of sdk.models.list()) names.push(entry.id);
  assert.ok(names.includes(model), names.join());
  assert.equal((await sdk.models.retrieve(model)).id, model);
});
await row.check('plain', async () => {
  for (const [name, options] of [[model, {}], [otherModel, { apiKey: null, authToken: key }]]) {
    const answer = await connect(options).messages.create(ask(name));
    assert.deepEqual([answer.model, answer.stop_reason], [name, 'end_turn']);
    matches(answer.content[0].text, said);
    assert.ok(answer.usage.output_tokens > 0);
  }
  const { input_tokens } = await sdk.messages.countTokens({ model, messages: user('ping') });
  assert.ok(input_tokens > 0);
});
await row.check('stream', async () => {
  const seen = await read(ask(model), { text: '' });
  matches(seen.text, said);
  assert.deepEqual([seen.model, seen.finish], [model, 'end_turn']);
  assert.ok(seen.chunks > 5, `${seen.chunks} events`);
  const whole = await sdk.messages.stream(ask(model)).finalMessage();
  assert.equal(whole.content[0].text, seen.text);
  return `${seen.chunks} events`;
});
await row.check('tools', async () => {
  const messages = user('weather?');
  const first = await sdk.messages.create(ask(model, { messages, tools }));
  const use = first.content[0];
  assert.deepEqual([first.stop_reason, use.type, use.name, use.input], ['tool_use', 'tool_use', 'weather', { city: 'example' }]);
  const streamed = await sdk.messages.stream(ask(model, { messages, tools })).finalMessage();
  assert.deepEqual(streamed.content[0].input, { city: 'example' });
  messages.push({ role: 'assistant', content: first.content });
  messages.push({ role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'rain' }] });
  matches((await sdk.messages.create(ask(model, { messages, tools }))).content[0].text, toolResultArrived);
});
await row.check('structured', async () => {
  const format = zodOutputFormat(z.object({ name: z.string(), count: z.number().int() }));
  const answer = await sdk.messages.parse(ask(model, { output_config: { format } }));
  assert.deepEqual(answer.parsed_output, { name: 'example', count: 1 });
});
row.lacks('embeddings', 'the API has none');
await row.check('images', async () => {
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: pixel } };
  const messages = user([{ type: 'text', text: 'ping' }, image]);
  matches((await sdk.messages.create(ask(model, { messages }))).content[0].text, pixelSeen, said);
});
await row.check('abort', async () => {
  const detail = await letsGo(
    async () => {
      const stream = await sdk.messages.create({ ...ask('standin/stall'), stream: true });
      await stream[Symbol.asyncIterator]().next();
      return stream;
    },
    (stream) => stream.controller.abort(),
  );
  await upstream.plays([{ kind: 'hang' }]);
  const controller = new AbortController();
  const plain = thrown(() => sdk.messages.create(ask(model), { signal: controller.signal }));
  await letsGo(() => {}, () => controller.abort());
  assert.ok((await plain) instanceof Anthropic.APIUserAbortError);
  return detail;
});
await row.check('401', async () => {
  const fault = await thrown(() => connect({ apiKey: wrongKey }).messages.create(ask(model)));
  assert.ok(fault instanceof Anthropic.AuthenticationError, fault.constructor.name);
  assert.deepEqual([fault.status, fault.error.type, typeof fault.error.error.message], [401, 'error', 'string']);
  return `AuthenticationError: ${fault.message}`;
});
await row.check('429', async () => {
  const fault = await thrown(() => sdk.messages.create(ask('standin/error-429')));
  assert.ok(fault instanceof Anthropic.RateLimitError, fault.constructor.name);
  assert.deepEqual([fault.status, fault.error.error.type], [429, 'rate_limit_error']);
  assert.equal(fault.headers.get('retry-after'), '1');
  return `RateLimitError: ${fault.message}`;
});
await row.check('retry-after', () => waitsAsTold(() => connect({ maxRetries: 2 }).messages.create(ask(model))));
for (const [behaviour, name] of [['cut', 'standin/cut'], ['reset', 'standin/reset'], ['error frame', 'standin/error-frame']]) {
  await row.check(behaviour, async () => {
    if (behaviour !== 'error frame') await thrown(() => sdk.messages.create(ask(name)));
    return brokenOff(name);
  });
}
await row.check('early end', async () => {
  await upstream.plays([unfinished('messages')]);
  return brokenOff(model);
});
