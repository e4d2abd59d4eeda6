// Codex in exec mode, against the gateway's /v1/responses.

import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { agent, events, start } from '../lib/agent.mjs';
import { client, gateway, key, versions } from '../lib/harness.mjs';

const provider = {
  name: 'nanogate', base_url: `${gateway}/v1`, env_key: 'GATEWAY_KEY', wire_api: 'responses',
};
const settings = Object.entries(provider).map(([name, value]) => `model_providers.nanogate.${name}="${value}"`);
const fixed = ['model_provider="nanogate"', ...settings].flatMap((setting) => ['-c', setting]);
const messages = (printed) => events(printed).filter((event) => event.item?.type === 'agent_message');
const last = (printed) => messages(printed).at(-1)?.item.text;

function run(prompt, options) {
  const args = ['exec', '--skip-git-repo-check', '--json', '-m', options.model, ...fixed];
  if (options.schema) {
    const file = join(process.env.CLIENT_WORK, 'schema.json');
    writeFileSync(file, JSON.stringify(options.schema));
    args.push('--output-schema', file);
  }
  args.push(prompt);
  if (options.image) args.push('-i', options.image);
  return start([resolve('node_modules/.bin/codex'), ...args], { GATEWAY_KEY: options.key ?? key });
}

await agent(client('Codex', versions('@openai/codex')), {
  run,
  answer: last,
  failure: (printed) => events(printed).find((event) => event.type === 'turn.failed')?.error.message,
  object: (printed) => JSON.parse(last(printed)),
  dialect: 'responses',
  retries429: false,
});
