// Vercel's AI SDK with zod's schemas, by all its ways to this server: node ai-sdk.mjs URL MODEL

import assert from 'node:assert/strict'
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'
import { Client, baseURL, model as name, question as prompt } from './client-tasks.mjs'

const compatible = createOpenAICompatible({
  name: 'glmserve',
  baseURL,
  apiKey: 'none',
  includeUsage: true,
  supportsStructuredOutputs: true,
})
const openai = createOpenAI({ baseURL, apiKey: 'none' })
const anthropic = createAnthropic({ baseURL, apiKey: 'none' })
const ways = [
  ['chat completions', compatible.chatModel(name)],
  ['chat completions', openai.chat(name)],
  ['responses', openai.responses(name)],
  ['messages', anthropic(name)],
]
const Weather = z.object({ sky: z.enum(['clear', 'grey']), degrees: z.int().min(-20).max(40) })
const Report = z.object({
  day: z.iso.date(),
  station: z.uuid(),
  address: z.ipv4(),
  wind: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('calm') }),
    z.object({ kind: z.literal('storm'), force: z.int32().min(8).max(12) }),
  ]),
  range: z.tuple([z.int().min(-9).max(0), z.int().min(1).max(9)]),
  dry: z.boolean().nullable(),
  hours: z.array(z.int().multipleOf(3).min(0).max(21)).min(1).max(3),
})
const tools = {
  look_up: tool({
    description: 'Look up the weather.',
    inputSchema: z.object({ place: z.enum(['here', 'there']) }),
    execute: async ({ place }) => `It is cold ${place}.`,
  }),
}
const settings = { maxRetries: 0, temperature: 0, maxOutputTokens: 300 }

async function wholeAndStream(model) {
  const whole = await generateText({ model, prompt, ...settings })
  const stream = streamText({ model, prompt, ...settings })
  let text = ''
  for await (const delta of stream.textStream) text += delta
  assert.equal(text, whole.text)
  assert.equal(await stream.finishReason, whole.finishReason)
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens)
  assert.ok(whole.text)
  assert.ok(whole.usage.inputTokens > 0)
}

async function objectOf(model, schema, offered) {
  const asked = { model, prompt, tools: offered, toolChoice: offered && 'none', ...settings }
  const output = Output.object({ schema })
  const { output: whole } = await generateText({ ...asked, output })
  schema.parse(whole)
  const stream = streamText({ ...asked, output })
  let last
  for await (const partial of stream.partialOutputStream) last = partial
  assert.deepEqual(schema.parse(last), whole)
}

// The tool is called, and its result is sent back.
async function toolCall(model) {
  const asked = { model, prompt, tools, ...settings, stopWhen: stepCountIs(2) }
  const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber ? 'none' : 'required' })
  const { steps } = await generateText({ ...asked, prepareStep })
  assert.equal(steps[0].finishReason, 'tool-calls')
  assert.match(steps[0].toolResults[0].output, /^It is cold/)
  assert.equal(steps.length, 2)
  const stream = streamText({ ...asked, prepareStep })
  await stream.consumeStream()
  const [streamed] = await stream.steps
  assert.deepEqual(streamed.toolCalls[0].input, steps[0].toolCalls[0].input)
}

async function embeddings() {
  const model = compatible.textEmbeddingModel(name)
  const { embeddings } = await embedMany({ model, values: ['a', '你好'], maxRetries: 0 })
  assert.equal(embeddings.length, 2)
}

const client = new Client('AI SDK with zod 4', 'ai')
for (const [api, model] of ways) {
  await client.do(api, 'chat', () => wholeAndStream(model))
  await client.do(api, 'stream', () => wholeAndStream(model))
  await client.do(api, 'tool call', () => toolCall(model))
  await client.do(api, 'structured answer', () => objectOf(model, Weather))
  await client.do(api, 'structured answer', () => objectOf(model, Weather, tools))
  await client.do(api, 'structured answer', () => objectOf(model, Report))
}
await client.do('embeddings', 'embeddings', embeddings)
