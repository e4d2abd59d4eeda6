// The AI SDK, whatever its version: @ai-sdk/openai with responses (its default) and chat, and @ai-sdk/openai-compatible.

import {
  assert, client, gateway, isUnitVector, key, letsGo, matches, model, otherModel, pixel, pixelSeen, said, thrown,
  toolResultArrived, unfinished, upstream, versions, waitsAsTold, wrongKey,
} from './harness.mjs';

const prompt = 'ping';

export async function aiSdk(ai, { createOpenAI, createOpenAICompatible, z }) {
  const name = `AI SDK ${versions('ai').match(/\d+/)}`;
  const openai = (options) => createOpenAI({ baseURL: `${gateway}/v1`, apiKey: key, ...options });
  const compatible = (options) =>
    createOpenAICompatible({
      name: 'nanogate', baseURL: `${gateway}/v1`, apiKey: key, supportsStructuredOutputs: true, ...options,
    });
  const ways = [
    { way: 'openai', connect: openai, of: (provider, id) => provider(id), dialect: 'responses' },
    { way: 'openai.chat', connect: openai, of: (provider, id) => provider.chat(id), dialect: 'chat' },
    { way: 'openai-compatible', connect: compatible, of: (provider, id) => provider(id), dialect: 'chat' },
  ];
  for (const { way, connect, of, dialect } of ways) {
    const library = way.startsWith('openai-') ? '@ai-sdk/openai-compatible' : '@ai-sdk/openai';
    const row = client(`${name}, ${way}`, versions('ai', library));
    const provider = connect();
    await behaviours(row, ai, z, {
      model: (id) => of(provider, id),
      stranger: of(connect({ apiKey: wrongKey }), model),
      embedding: provider.textEmbeddingModel('text-embedding-3-small'),
      unschooled: compatible({ supportsStructuredOutputs: false })(model),
      dialect,
    });
  }
}

async function behaviours(row, ai, z, at) {
  const { generateText, streamText, generateObject, embedMany, tool, stepCountIs, APICallError } = ai;
  const weather = tool({
    description: 'The weather in a city.',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `rain in ${city}`,
  });
  const withTools = { model: at.model(model), prompt: 'weather?', tools: { weather }, stopWhen: stepCountIs(3) };

  const read = async (options, seen) => {
    const result = streamText({ maxRetries: 0, onError: () => {}, ...options });
    for await (const part of result.fullStream) {
      if (part.type === 'error') throw part.error;
      if (part.type === 'text-delta') {
        seen.text += part.text;
        seen.chunks = (seen.chunks ?? 0) + 1;
      }
      if (part.type === 'finish') [seen.finish, seen.usage] = [part.finishReason, part.totalUsage];
    }
    return seen;
  };
  const brokenOff = async (id) => {
    const seen = { text: '' };
    const fault = await thrown(() => read({ model: at.model(id), prompt }, seen));
    assert.ok(seen.text.length > 0, `nothing was seen before ${fault}`);
    return `${fault.name ?? typeof fault} after ${seen.text.length} characters: ${fault.message ?? JSON.stringify(fault)}`;
  };

  row.lacks('models', 'the SDK does not list models');
  await row.check('plain', async () => {
    for (const id of [model, otherModel]) {
      const answer = await generateText({ model: at.model(id), prompt, maxRetries: 0 });
      matches(answer.text, said);
      assert.deepEqual([answer.finishReason, answer.response.modelId], ['stop', id]);
      assert.ok(answer.usage.totalTokens > 0);
    }
  });
  await row.check('stream', async () => {
    const seen = await read({ model: at.model(model), prompt }, { text: '' });
    matches(seen.text, said);
    assert.equal(seen.finish, 'stop');
    assert.ok(seen.chunks > 5, `${seen.chunks} pieces`);
    return `${seen.chunks} pieces`;
  });
  await row.check('tools', async () => {
    const whole = await generateText({ ...withTools, maxRetries: 0 });
    assert.equal(whole.steps.length, 2);
    assert.deepEqual(whole.steps[0].toolCalls[0].input, { city: 'example' });
    assert.equal(whole.steps[0].toolResults[0].output, 'rain in example');
    matches(whole.text, toolResultArrived);
    matches((await read(withTools, { text: '' })).text, toolResultArrived);
  });
  await row.check('structured', async () => {
    const schema = z.object({ name: z.string(), count: z.number().int(), tags: z.array(z.string()) });
    const wanted = { name: 'example', count: 1, tags: ['example'] };
    assert.deepEqual((await generateObject({ model: at.model(model), prompt, schema, maxRetries: 0 })).object, wanted);
    // Without support for schemas it asks for any JSON, and the upstream has only one to offer.
    const answer = z.object({ answer: z.string() });
    const any = await generateObject({ model: at.unschooled, prompt, schema: answer, maxRetries: 0 });
    matches(any.object.answer, said);
  });
  await row.check('embeddings', async () => {
    const { embeddings } = await embedMany({ model: at.embedding, values: ['one', 'two'], maxRetries: 0 });
    assert.equal(embeddings.length, 2);
    embeddings.forEach((vector) => isUnitVector(vector, 256));
    assert.notDeepEqual(embeddings[0], embeddings[1]);
  });
  await row.check('images', async () => {
    const content = [{ type: 'text', text: prompt }, { type: 'file', mediaType: 'image/png', data: pixel }];
    const answer = await generateText({ model: at.model(model), messages: [{ role: 'user', content }], maxRetries: 0 });
    matches(answer.text, pixelSeen, said);
  });
  await row.check('abort', async () => {
    const controller = new AbortController();
    const detail = await letsGo(
      async () => {
        const result = streamText({ model: at.model('standin/stall'), prompt, abortSignal: controller.signal });
        const parts = result.fullStream[Symbol.asyncIterator]();
        while ((await parts.next()).value?.type !== 'text-delta');
      },
      () => controller.abort(),
    );
    await upstream.plays([{ kind: 'hang' }]);
    const other = new AbortController();
    const plain = thrown(() => generateText({ model: at.model(model), prompt, abortSignal: other.signal }));
    await letsGo(() => {}, () => other.abort());
    assert.equal((await plain).name, 'AbortError');
    return detail;
  });
  await row.check('401', async () => {
    const fault = await thrown(() => generateText({ model: at.stranger, prompt }));
    assert.ok(APICallError.isInstance(fault), fault.name);
    assert.deepEqual([fault.statusCode, fault.isRetryable], [401, false]);
    const streamed = await thrown(() => read({ model: at.stranger, prompt }, { text: '' }));
    assert.equal(streamed.statusCode, 401);
    return `${fault.name}: ${fault.message}`;
  });
  await row.check('429', async () => {
    const fault = await thrown(() => generateText({ model: at.model('standin/error-429'), prompt, maxRetries: 0 }));
    assert.ok(APICallError.isInstance(fault), fault.name);
    assert.deepEqual([fault.statusCode, fault.isRetryable, fault.responseHeaders['retry-after']], [429, true, '1']);
    return `${fault.name}: ${fault.message}`;
  });
  await row.check('retry-after', () => waitsAsTold(() => generateText({ model: at.model(model), prompt })));
  for (const [behaviour, id] of [['cut', 'standin/cut'], ['reset', 'standin/reset'], ['error frame', 'standin/error-frame']]) {
    await row.check(behaviour, async () => {
      if (behaviour !== 'error frame') await thrown(() => generateText({ model: at.model(id), prompt, maxRetries: 0 }));
      return brokenOff(id);
    });
  }
  await row.check('early end', async () => {
    await upstream.plays([unfinished(at.dialect)]);
    return brokenOff(model);
  });
}
