import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import * as ai from 'ai';
import { z } from 'zod';
import { aiSdk } from '../lib/ai-sdk.mjs';

await aiSdk(ai, { createOpenAI, createOpenAICompatible, z });
