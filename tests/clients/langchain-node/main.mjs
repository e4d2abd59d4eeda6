// LangChain for JavaScript: ChatOpenAI and OpenAIEmbeddings.

import { HumanMessage } from '@langchain/core/messages';
import { concat } from '@langchain/core/utils/stream';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { z } from 'zod';
import {
  assert, client, gateway, isUnitVector, key, letsGo, matches, model, otherModel, pixel, pixelSeen, said, thrown,
  toolResultArrived, unfinished, upstream, versions, waitsAsTold, wrongKey,
} from '../lib/harness.mjs';

const row = client('LangChain (JavaScript)', versions('@langchain/openai', '@langchain/core', 'openai'));
const configuration = { baseURL: `${gateway}/v1` };
const connect = (name, options) => new ChatOpenAI({ model: name, apiKey: key, maxRetries: 0, configuration, ...options });
const weather = tool(async ({ city }) => `rain in ${city}`, {
  name: 'weather', description: 'The weather in a city.', schema: z.object({ city: z.string() }),
});

async function read(name, seen) {
  for await (const chunk of await connect(name).stream('ping')) {
    seen.chunks = (seen.chunks ?? 0) + 1;
    seen.text += chunk.text;
    seen.finish = chunk.response_metadata?.finish_reason ?? seen.finish;
  }
  return seen;
}

async function brokenOff(name) {
  const seen = { text: '' };
  const fault = await thrown(() => read(name, seen));
  assert.ok(seen.text.length > 0, `nothing was seen before ${fault}`);
  assert.ok(!seen.finish, `finished with ${seen.finish}`);
  return `${fault.constructor.name} after ${seen.text.length} characters: ${fault.message}`;
}

row.lacks('models', 'LangChain does not list models');
await row.check('plain', async () => {
  for (const name of [model, otherModel]) {
    const answer = await connect(name).invoke('ping');
    matches(answer.text, said);
    const { model_name, finish_reason } = answer.response_metadata;
    assert.deepEqual([model_name, finish_reason], [name, 'stop']);
    assert.ok(answer.usage_metadata.total_tokens > 0);
  }
});
await row.check('stream', async () => {
  const seen = await read(model, { text: '' });
  matches(seen.text, said);
  assert.equal(seen.finish, 'stop');
  assert.ok(seen.chunks > 5, `${seen.chunks} chunks`);
  return `${seen.chunks} chunks`;
});
await row.check('tools', async () => {
  const bound = connect(model).bindTools([weather]);
  const messages = [new HumanMessage('weather?')];
  const first = await bound.invoke(messages);
  assert.deepEqual(first.tool_calls.map(({ name, args }) => [name, args]), [['weather', { city: 'example' }]]);
  let whole;
  for await (const chunk of await bound.stream(messages)) whole = whole ? concat(whole, chunk) : chunk;
  assert.deepEqual(whole.tool_calls[0].args, { city: 'example' });
  const result = await weather.invoke(first.tool_calls[0]);
  matches((await bound.invoke([...messages, first, result])).text, toolResultArrived);
});
await row.check('structured', async () => {
  const shape = z.object({ name: z.string(), count: z.number().int() });
  for (const method of ['jsonSchema', 'functionCalling']) {
    const answer = await connect(model).withStructuredOutput(shape, { name: 'thing', method }).invoke('ping');
    assert.deepEqual(answer, { name: 'example', count: 1 });
  }
});
await row.check('embeddings', async () => {
  const embeddings = new OpenAIEmbeddings({ model: 'text-embedding-3-small', apiKey: key, maxRetries: 0, configuration });
  const [one, two] = await embeddings.embedDocuments(['one', 'two']);
  isUnitVector(one, 256);
  isUnitVector(two, 256);
  assert.notDeepEqual(one, two);
});
await row.check('images', async () => {
  const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${pixel}` } };
  const answer = await connect(model).invoke([new HumanMessage({ content: [{ type: 'text', text: 'ping' }, image] })]);
  matches(answer.text, pixelSeen, said);
});
await row.check('abort', async () => {
  const controller = new AbortController();
  const detail = await letsGo(
    async () => {
      const stream = await connect('standin/stall').stream('ping', { signal: controller.signal });
      await stream[Symbol.asyncIterator]().next();
    },
    () => controller.abort(),
  );
  await upstream.plays([{ kind: 'hang' }]);
  const other = new AbortController();
  const plain = thrown(() => connect(model).invoke('ping', { signal: other.signal }));
  await letsGo(() => {}, () => other.abort());
  await plain;
  return detail;
});
await row.check('401', async () => {
  const fault = await thrown(() => connect(model, { apiKey: wrongKey }).invoke('ping'));
  assert.deepEqual([fault.status, fault.lc_error_code], [401, 'MODEL_AUTHENTICATION']);
  return `${fault.constructor.name}: ${fault.message}`;
});
await row.check('429', async () => {
  const fault = await thrown(() => connect('standin/error-429').invoke('ping'));
  assert.deepEqual([fault.status, fault.lc_error_code], [429, 'MODEL_RATE_LIMIT']);
  assert.equal(fault.headers.get('retry-after'), '1');
  return `${fault.constructor.name}: ${fault.message}`;
});
await row.check('retry-after', () => waitsAsTold(() => connect(model, { maxRetries: 2 }).invoke('ping')));
for (const [behaviour, name] of [['cut', 'standin/cut'], ['reset', 'standin/reset'], ['error frame', 'standin/error-frame']]) {
  await row.check(behaviour, async () => {
    if (behaviour !== 'error frame') await thrown(() => connect(name).invoke('ping'));
    return brokenOff(name);
  });
}
await row.check('early end', async () => {
  await upstream.plays([unfinished('chat')]);
  return brokenOff(model);
});
