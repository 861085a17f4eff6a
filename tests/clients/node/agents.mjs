// OpenAI's Agents SDK, by both of its models: node agents.mjs URL MODEL

import assert from 'node:assert/strict'
import {
  Agent,
  OpenAIChatCompletionsModel,
  OpenAIResponsesModel,
  run,
  setTracingDisabled,
  tool,
} from '@openai/agents'
import OpenAI from 'openai'
import { z } from 'zod'
import { Client, baseURL, model as name, question } from './client-tasks.mjs'

setTracingDisabled(true)
const opened = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 })
const Weather = z.object({ sky: z.enum(['clear', 'grey']), degrees: z.int().min(-20).max(40) })
const lookUp = tool({
  name: 'look_up',
  description: 'Look up the weather.',
  parameters: z.object({ place: z.enum(['here', 'there']) }),
  execute: async ({ place }) => `It is cold ${place}.`,
})

function agent(model, fields = {}, settings = {}) {
  const modelSettings = { temperature: 0, maxTokens: 200, ...settings }
  return new Agent({ name: 'Forecaster', instructions: 'Be brief.', model, modelSettings, ...fields })
}

async function chat(model) {
  const first = await run(agent(model), question)
  assert.ok(first.finalOutput)
  const turns = [...first.history, { role: 'user', content: 'Why?' }]
  assert.ok((await run(agent(model), turns)).finalOutput)
}

async function stream(model) {
  const streamed = await run(agent(model), question, { stream: true })
  let text = ''
  for await (const part of streamed.toTextStream()) text += part
  await streamed.completed
  assert.ok(text)
  assert.equal(streamed.finalOutput, text)
}

// The SDK calls the tool, and asks again with its result.
async function toolCall(model) {
  const asking = agent(model, { tools: [lookUp] }, { toolChoice: 'required' })
  const { newItems } = await run(asking, question)
  const result = newItems.find((item) => item.type === 'tool_call_output_item')
  assert.match(result.output, /^It is cold/)
}

async function structuredAnswer(model, tools) {
  const asking = agent(model, { outputType: Weather, tools }, tools && { toolChoice: 'none' })
  Weather.parse((await run(asking, question)).finalOutput)
}

const client = new Client('OpenAI Agents SDK for Node', '@openai/agents')
for (const [api, model] of [
  ['responses', new OpenAIResponsesModel(opened, name)],
  ['chat completions', new OpenAIChatCompletionsModel(opened, name)],
]) {
  await client.do(api, 'chat', () => chat(model))
  await client.do(api, 'stream', () => stream(model))
  await client.do(api, 'tool call', () => toolCall(model))
  await client.do(api, 'structured answer', () => structuredAnswer(model))
  await client.do(api, 'structured answer', () => structuredAnswer(model, [lookUp]))
}
