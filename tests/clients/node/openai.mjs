// OpenAI's own package: node openai.mjs URL MODEL

import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { Client, baseURL, model, question } from './client-tasks.mjs'

const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 })
const messages = [{ role: 'user', content: question }]
const Weather = z.object({ sky: z.enum(['clear', 'grey']), degrees: z.int().min(-20).max(40) })
const LookUp = z.object({ place: z.enum(['here', 'there']) })
const lookUp = zodFunction({ name: 'look_up', parameters: LookUp })

const tests = {
  async 'a stream says what the whole says'() {
    const asked = { model, messages, temperature: 0, max_tokens: 30 }
    const whole = await client.chat.completions.create(asked)
    const stream = client.chat.completions.stream({
      ...asked,
      stream_options: { include_usage: true },
    })
    let text = ''
    stream.on('content', (delta) => (text += delta))
    const final = await stream.finalChatCompletion()
    assert.equal(text, whole.choices[0].message.content)
    assert.equal(final.choices[0].finish_reason, whole.choices[0].finish_reason)
    assert.equal(final.usage.completion_tokens, whole.usage.completion_tokens)
  },

  async 'structured output is parsed'() {
    const answer = await client.chat.completions.parse({
      model,
      messages,
      response_format: zodResponseFormat(Weather, 'weather'),
    })
    Weather.parse(answer.choices[0].message.parsed)
  },

  async 'tools are run until the model has said something'() {
    let calls = 0
    const look = (args) => {
      LookUp.parse(args)
      calls += 1
      return 'It is cold.'
    }
    const runner = client.chat.completions.runTools(
      {
        model,
        messages,
        max_tokens: 200,
        seed: 1,
        tool_choice: { type: 'function', function: { name: 'look_up' } },
        tools: [
          {
            type: 'function',
            function: {
              name: 'look_up',
              parameters: lookUp.function.parameters,
              parse: JSON.parse,
              function: look,
            },
          },
        ],
      },
      { maxChatCompletions: 2 },
    )
    await runner.done()
    assert.ok(calls >= 1)
    assert.ok(runner.messages.some((message) => message.role === 'tool'))
  },

  async 'calls are streamed'() {
    const stream = client.chat.completions.stream({
      model,
      messages,
      tools: [lookUp],
      tool_choice: 'required',
      seed: 1,
    })
    const { finish_reason, message } = (await stream.finalChatCompletion()).choices[0]
    assert.equal(finish_reason, 'tool_calls')
    LookUp.parse(message.tool_calls[0].function.parsed_arguments)
  },

  async 'a stream can be aborted'() {
    const stream = await client.chat.completions.create({
      model,
      messages,
      stream: true,
      max_tokens: 1900,
      ignore_eos: true,
    })
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break
  },

  async 'completions, embeddings and models'() {
    const { choices } = await client.completions.create({ model, prompt: 'a', max_tokens: 3 })
    assert.equal(choices.length, 1)
    const { data } = await client.embeddings.create({ model, input: ['a', '你好'] })
    assert.equal(data.length, 2)
    assert.ok(data.every(({ embedding }) => Math.abs(Math.hypot(...embedding) - 1) < 1e-3))
    assert.deepEqual((await client.models.list()).data.map(({ id }) => id), [model])
  },

  async 'errors have their own classes'() {
    const wrong = client.chat.completions.create({ model, messages, temperature: 9 })
    await assert.rejects(wrong, (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError)
      return error.param === 'temperature'
    })
  },
}

const works = {
  'a stream says what the whole says': ['chat', 'stream'],
  'structured output is parsed': ['structured answer'],
  'tools are run until the model has said something': ['tool call'],
  'calls are streamed': ['tool call'],
  'a stream can be aborted': ['abort'],
  'completions, embeddings and models': ['other routes'],
  'errors have their own classes': ['errors'],
}
const tested = new Client("OpenAI's SDK for Node", 'openai')
for (const [name, test] of Object.entries(tests)) {
  for (const what of works[name]) await tested.do('chat completions', what, test)
}
