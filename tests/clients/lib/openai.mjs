// openai-node, whatever its version: chat completions, and the responses API.

import {
  assert, client, gateway, isUnitVector, key, letsGo, matches, model, otherModel, pixel, pixelSeen, said,
  thrown, toolResultArrived, unfinished, upstream, versions, waitsAsTold, wrongKey,
} from './harness.mjs';

const parameters = {
  type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false,
};
const user = (content) => [{ role: 'user', content }];
const ping = user('ping');

export async function openai(OpenAI, { zodResponseFormat, zodTextFormat, z }, name) {
  const connect = (options) => new OpenAI({ baseURL: `${gateway}/v1`, apiKey: key, maxRetries: 0, ...options });
  const api = { OpenAI, connect, sdk: connect(), z };
  await chat(client(`${name}, chat`, versions('openai')), api, zodResponseFormat);
  await responses(client(`${name}, responses`, versions('openai')), api, zodTextFormat);
}

async function errors(row, { OpenAI, connect }, call, stream) {
  await row.check('401', async () => {
    const fault = await thrown(() => call(connect({ apiKey: wrongKey }), model));
    assert.ok(fault instanceof OpenAI.AuthenticationError, fault.constructor.name);
    assert.deepEqual([fault.status, fault.type, fault.code], [401, 'auth_error', '401']);
    return `AuthenticationError: ${fault.message}`;
  });
  await row.check('429', async () => {
    const fault = await thrown(() => call(connect(), 'standin/error-429'));
    assert.ok(fault instanceof OpenAI.RateLimitError, fault.constructor.name);
    assert.deepEqual([fault.status, fault.code], [429, 'rate_limit_exceeded']);
    assert.equal(fault.headers.get?.('retry-after') ?? fault.headers['retry-after'], '1');
    return `RateLimitError: ${fault.message}`;
  });
  await row.check('retry-after', () => waitsAsTold(() => call(connect({ maxRetries: 2 }), model)));
  for (const [behaviour, name] of [['cut', 'standin/cut'], ['reset', 'standin/reset'], ['error frame', 'standin/error-frame']]) {
    await row.check(behaviour, async () => {
      if (behaviour !== 'error frame') await thrown(() => call(connect(), name));
      return brokenOff(stream, name);
    });
  }
  await row.check('early end', async () => {
    await upstream.plays([unfinished(row.dialect)]);
    return brokenOff(stream, model);
  });
}

async function brokenOff(stream, name) {
  const seen = { text: '' };
  const fault = await thrown(() => stream(name, seen));
  assert.ok(seen.text.length > 0, 'nothing was seen before the error');
  assert.ok(!seen.finish, `finished with ${seen.finish}`);
  return `${fault.constructor.name} after ${seen.text.length} characters: ${fault.message}`;
}

async function chat(row, api, zodResponseFormat) {
  const { sdk, connect, z } = api;
  const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
  const read = async (body, seen, options) => {
    for await (const chunk of await sdk.chat.completions.create({ ...body, stream: true }, options)) {
      const choice = chunk.choices[0];
      seen.chunks = (seen.chunks ?? 0) + 1;
      seen.model = chunk.model;
      seen.text += choice?.delta?.content ?? '';
      seen.finish = choice?.finish_reason ?? seen.finish;
      seen.usage = chunk.usage ?? seen.usage;
    }
    return seen;
  };

  await row.check('models', async () => {
    const names = [];
    for await (const entry of sdk.models.list()) names.push(entry.id);
    assert.ok(names.includes(model), names.join());
    assert.equal((await sdk.models.retrieve(model)).id, model);
  });
  await row.check('plain', async () => {
    for (const name of [model, otherModel]) {
      const answer = await sdk.chat.completions.create({ model: name, messages: ping });
      assert.deepEqual([answer.model, answer.choices[0].finish_reason], [name, 'stop']);
      matches(answer.choices[0].message.content, said);
      assert.ok(answer.usage.total_tokens > 0);
    }
  });
  await row.check('stream', async () => {
    const seen = await read({ model, messages: ping }, { text: '' });
    matches(seen.text, said);
    assert.deepEqual([seen.model, seen.finish, seen.usage], [model, 'stop', undefined]);
    assert.ok(seen.chunks > 5, `${seen.chunks} chunks`);
    const counted = await read({ model, messages: ping, stream_options: { include_usage: true } }, { text: '' });
    assert.ok(counted.usage.completion_tokens > 0);
    return `${seen.chunks} chunks`;
  });
  await row.check('tools', async () => {
    const messages = user('weather?');
    const first = (await sdk.chat.completions.create({ model, messages, tools })).choices[0];
    const call = first.message.tool_calls[0];
    assert.deepEqual([first.finish_reason, call.function.name], ['tool_calls', 'weather']);
    assert.deepEqual(JSON.parse(call.function.arguments), { city: 'example' });
    messages.push(first.message, { role: 'tool', tool_call_id: call.id, content: 'rain' });
    const second = await sdk.chat.completions.create({ model, messages, tools });
    matches(second.choices[0].message.content, toolResultArrived);

    const whole = await (sdk.chat.completions.stream ?? sdk.beta.chat.completions.stream)
      .call((sdk.chat.completions.stream ? sdk : sdk.beta).chat.completions, { model, messages: user('weather?'), tools })
      .finalChatCompletion();
    assert.deepEqual(JSON.parse(whole.choices[0].message.tool_calls[0].function.arguments), { city: 'example' });
  });
  await row.check('structured', async () => {
    const shape = z.object({ name: z.string(), count: z.number().int(), tags: z.array(z.string()) });
    const parse = sdk.chat.completions.parse ? sdk.chat.completions : sdk.beta.chat.completions;
    const body = { model, messages: ping, response_format: zodResponseFormat(shape, 'thing') };
    const { parsed } = (await parse.parse(body)).choices[0].message;
    assert.deepEqual(parsed, { name: 'example', count: 1, tags: ['example'] });
  });
  await row.check('embeddings', async () => {
    const ask = { model: 'text-embedding-3-small', input: ['one', 'two'] };
    const { data } = await sdk.embeddings.create(ask);
    assert.equal(data.length, 2);
    data.forEach(({ embedding }) => isUnitVector(embedding, 256));
    assert.notDeepEqual(data[0].embedding, data[1].embedding);
    const spelt = await sdk.embeddings.create({ ...ask, dimensions: 64, encoding_format: 'float' });
    isUnitVector(spelt.data[1].embedding, 64);
  });
  await row.check('images', async () => {
    const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${pixel}` } };
    const answer = await sdk.chat.completions.create({ model, messages: user([{ type: 'text', text: 'ping' }, image]) });
    matches(answer.choices[0].message.content, pixelSeen, said);
  });
  await row.check('abort', async () => {
    const streaming = () => sdk.chat.completions.create({ model: 'standin/stall', messages: ping, stream: true });
    const detail = await letsGo(
      async () => {
        const stream = await streaming();
        await stream[Symbol.asyncIterator]().next();
        return stream;
      },
      (stream) => stream.controller.abort(),
    );
    await upstream.plays([{ kind: 'hang' }]);
    const controller = new AbortController();
    const plain = thrown(() => sdk.chat.completions.create({ model, messages: ping }, { signal: controller.signal }));
    await letsGo(() => {}, () => controller.abort());
    assert.ok((await plain) instanceof api.OpenAI.APIUserAbortError);
    return detail;
  });
  row.dialect = 'chat';
  await errors(
    row,
    api,
    (sdk, model) => sdk.chat.completions.create({ model, messages: ping }),
    (model, seen) => read({ model, messages: ping }, seen),
  );
}

async function responses(row, api, zodTextFormat) {
  const { sdk, z } = api;
  const tools = [{ type: 'function', name: 'weather', parameters, strict: true }];
  const read = async (body, seen) => {
    for await (const event of await sdk.responses.create({ ...body, stream: true })) {
      if (event.type === 'response.output_text.delta') seen.text += event.delta;
      if (event.type === 'response.completed') [seen.finish, seen.model] = [event.response.status, event.response.model];
      if (event.type === 'error') throw Object.assign(new Error(event.message ?? event.error?.message), event);
    }
    return seen;
  };

  await row.check('plain', async () => {
    const answer = await sdk.responses.create({ model, input: 'ping' });
    assert.deepEqual([answer.model, answer.status], [model, 'completed']);
    matches(answer.output_text, said);
    assert.ok(answer.usage.total_tokens > 0);
  });
  await row.check('stream', async () => {
    const seen = await read({ model, input: 'ping' }, { text: '' });
    matches(seen.text, said);
    assert.deepEqual([seen.finish, seen.model], ['completed', model]);
  });
  await row.check('tools', async () => {
    const input = user('weather?');
    const first = await sdk.responses.create({ model, input, tools });
    const call = first.output[0];
    assert.deepEqual([call.type, call.name, JSON.parse(call.arguments)], ['function_call', 'weather', { city: 'example' }]);
    input.push(call, { type: 'function_call_output', call_id: call.call_id, output: 'rain' });
    matches((await sdk.responses.create({ model, input, tools })).output_text, toolResultArrived);
    const streamed = await sdk.responses.stream({ model, input: 'weather?', tools }).finalResponse();
    assert.deepEqual(JSON.parse(streamed.output[0].arguments), { city: 'example' });
  });
  await row.check('structured', async () => {
    const format = zodTextFormat(z.object({ name: z.string(), count: z.number().int() }), 'thing');
    const answer = await sdk.responses.parse({ model, input: 'ping', text: { format } });
    assert.deepEqual(answer.output_parsed, { name: 'example', count: 1 });
  });
  row.lacks('embeddings', 'not part of this API');
  row.lacks('models', 'not part of this API');
  await row.check('images', async () => {
    const image = { type: 'input_image', image_url: `data:image/png;base64,${pixel}`, detail: 'auto' };
    const input = user([{ type: 'input_text', text: 'ping' }, image]);
    matches((await sdk.responses.create({ model, input })).output_text, pixelSeen, said);
  });
  await row.check('abort', () =>
    letsGo(
      async () => {
        const stream = await sdk.responses.create({ model: 'standin/stall', input: 'ping', stream: true });
        await stream[Symbol.asyncIterator]().next();
        return stream;
      },
      (stream) => stream.controller.abort(),
    ));
  row.dialect = 'responses';
  await errors(
    row,
    api,
    (sdk, model) => sdk.responses.create({ model, input: 'ping' }),
    (model, seen) => read({ model, input: 'ping' }, seen),
  );
}
