// Vercel's AI SDK, through both of its providers that speak this protocol: node ai-sdk.mjs BASE_URL

import assert from 'node:assert/strict'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const baseURL = process.argv[2]
const compatible = createOpenAICompatible({
  name: 'glmserve',
  baseURL,
  apiKey: 'none',
  includeUsage: true,
  supportsStructuredOutputs: true,
})
const openai = createOpenAI({ baseURL, apiKey: 'none' })
const providers = {
  'openai-compatible': compatible.chatModel('glm-tiny'),
  openai: openai.chat('glm-tiny'),
}
const prompt = 'Is it cold outside?'
const Weather = z.object({ sky: z.enum(['clear', 'grey']), degrees: z.int().min(-20).max(40) })
const tools = {
  look_up: tool({
    description: 'Look up the weather.',
    inputSchema: z.object({ place: z.enum(['here', 'there']) }),
    execute: async ({ place }) => `It is cold ${place}.`,
  }),
}
const settings = { maxRetries: 0, temperature: 0, maxOutputTokens: 200, seed: 1 }

const tests = {
  async 'a stream says what the whole says'(model) {
    const whole = await generateText({ model, prompt, ...settings })
    const stream = streamText({ model, prompt, ...settings })
    let text = ''
    for await (const delta of stream.textStream) text += delta
    assert.equal(text, whole.text)
    assert.equal(await stream.finishReason, whole.finishReason)
    assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens)
    assert.ok(whole.usage.inputTokens > 0)
  },

  async 'an object of a schema'(model) {
    const output = Output.object({ schema: Weather })
    const { output: whole } = await generateText({ model, prompt, output, ...settings })
    Weather.parse(whole)
    const stream = streamText({ model, prompt, output, ...settings })
    let last
    for await (const partial of stream.partialOutputStream) last = partial
    assert.deepEqual(Weather.parse(last), whole)
  },

  async 'a tool is called and its result is sent back'(model) {
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
  },
}

for (const [provider, model] of Object.entries(providers)) {
  for (const [name, test] of Object.entries(tests)) {
    await test(model)
    console.log(`ok - ${provider}: ${name}`)
  }
}

const model = compatible.textEmbeddingModel('glm-tiny')
const { embeddings } = await embedMany({ model, values: ['a', '你好'], maxRetries: 0 })
assert.equal(embeddings.length, 2)
console.log('ok - embeddings')
