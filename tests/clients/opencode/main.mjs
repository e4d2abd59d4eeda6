// opencode's run command, against the gateway's /v1/chat/completions.

import { resolve } from 'node:path';
import { agent, events, start } from '../lib/agent.mjs';
import { client, gateway, key, model, versions } from '../lib/harness.mjs';

const sees = { attachment: true, modalities: { input: ['text', 'image'], output: ['text'] } };

function config(apiKey, tools) {
  const models = { [model]: sees, 'standin/error-429': {} };
  const options = { baseURL: `${gateway}/v1`, apiKey };
  return {
    autoupdate: false,
    share: 'disabled',
    provider: { nanogate: { npm: '@ai-sdk/openai-compatible', name: 'nanogate', options, models } },
    ...(!tools && { tools: { '*': false } }),
  };
}

function run(prompt, options) {
  // With a title it need not ask the model for one; that request would take a step of the script.
  const args = ['run', '--format', 'json', '--title', 'test', '-m', `nanogate/${options.model}`, prompt];
  if (options.image) args.push('-f', options.image);
  const environment = {
    OPENCODE_CONFIG_CONTENT: JSON.stringify(config(options.key ?? key, options.tools)),
    OPENCODE_DISABLE_AUTOUPDATE: '1',
    OPENCODE_DISABLE_MODELS_FETCH: '1',
    OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
    OPENCODE_DISABLE_DEFAULT_PLUGINS: '1',
  };
  return start([resolve('node_modules/.bin/opencode'), ...args], environment);
}

await agent(client('opencode', versions('opencode-ai')), {
  run,
  answer: (printed) => events(printed).findLast((event) => event.type === 'text')?.part.text,
  failure: (printed) => JSON.stringify(events(printed).find((event) => event.type === 'error')?.error.data),
  dialect: 'chat',
  retries429: true,
});
