// Claude Code in print mode, against the gateway's /v1/messages.

import { resolve } from 'node:path';
import { agent, events, start } from '../lib/agent.mjs';
import { client, gateway, key, pixel, versions } from '../lib/harness.mjs';

const result = (printed) => events(printed).findLast((event) => event.type === 'result');

function run(prompt, options) {
  const args = ['--output-format', 'stream-json', '--verbose', '--model', options.model];
  args.push('--tools', options.tools ? 'Read' : '');
  if (options.schema) args.push('--json-schema', JSON.stringify(options.schema));
  const content = [{ type: 'text', text: prompt }];
  if (options.image) {
    content.push({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: pixel } });
  }
  const message = JSON.stringify({ type: 'user', message: { role: 'user', content } }) + '\n';
  const environment = {
    ANTHROPIC_BASE_URL: gateway,
    ANTHROPIC_AUTH_TOKEN: options.key ?? key,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    DISABLE_AUTOUPDATER: '1',
    ...(options.noRetries && { CLAUDE_CODE_MAX_RETRIES: '0' }),
  };
  return start([resolve('node_modules/.bin/claude'), '-p', '--input-format', 'stream-json', ...args], environment, message);
}

/** What fits the schema is the input of a tool, and not of the first one, which the upstream would call. */
function callsStructuredOutput(input) {
  const message = {
    id: 'msg_1', type: 'message', role: 'assistant', model: 'm', content: [], stop_reason: null, stop_sequence: null,
    usage: { input_tokens: 3, output_tokens: 0 },
  };
  const frames = [
    { type: 'message_start', message },
    { type: 'content_block_start', index: 0, content_block: { type: 'tool_use', id: 'toolu_1', name: 'StructuredOutput', input: {} } },
    { type: 'content_block_delta', index: 0, delta: { type: 'input_json_delta', partial_json: JSON.stringify(input) } },
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'tool_use', stop_sequence: null }, usage: { output_tokens: 5 } },
    { type: 'message_stop' },
  ];
  return { kind: 'sse', end: 'clean', frames: frames.map((frame) => `event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`) };
}

await agent(client('Claude Code', versions('@anthropic-ai/claude-code')), {
  run,
  answer: (printed) => result(printed)?.result,
  failure: (printed) => (result(printed)?.is_error ? result(printed).result : undefined),
  object: (printed) => result(printed)?.structured_output,
  objectSteps: [callsStructuredOutput({ name: 'example', count: 1 }), { kind: 'auto' }],
  dialect: 'messages',
  retries429: true,
});
