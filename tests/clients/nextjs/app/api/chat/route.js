// The route as the AI SDK's documentation has it, with the gateway for a provider.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { convertToModelMessages, jsonSchema, stepCountIs, streamText, tool } from 'ai';

const weather = tool({
  description: 'The weather in a city.',
  inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }),
  execute: async ({ city }) => `rain in ${city}`,
});

export async function POST(request) {
  const { messages, model, tools, wrongKey, maxRetries } = await request.json();
  const gateway = createOpenAICompatible({
    name: 'nanogate',
    baseURL: `${process.env.GATEWAY_URL}/v1`,
    apiKey: wrongKey ?? process.env.GATEWAY_KEY,
  });
  const result = streamText({
    model: gateway(model),
    messages: await convertToModelMessages(messages),
    tools: tools ? { weather } : undefined,
    stopWhen: stepCountIs(3),
    abortSignal: request.signal,
    maxRetries,
  });
  return result.toUIMessageStreamResponse({ onError: (fault) => `${fault.statusCode ?? ''} ${fault.message ?? fault}` });
}
