import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { openai } from '../lib/openai.mjs';

await openai(OpenAI, { zodResponseFormat, zodTextFormat, z }, 'openai-node 4');
