// Anthropic's own package: node anthropic.mjs URL MODEL

import assert from 'node:assert/strict'
import Anthropic from '@anthropic-ai/sdk'
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod'
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod'
import { z } from 'zod'
import { Client, model, question, url } from './client-tasks.mjs'

const opened = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 })
const asked = { model, max_tokens: 100, messages: [{ role: 'user', content: question }] }
const Weather = z.object({ sky: z.enum(['clear', 'grey']), cold: z.boolean() })
const Place = z.object({ place: z.enum(['here', 'there']) })

async function chat() {
  const { content } = await opened.messages.create(asked)
  assert.ok(content[0].text)
}

async function stream() {
  let text = ''
  const events = opened.messages.stream(asked).on('text', (delta) => (text += delta))
  const final = await events.finalMessage()
  assert.ok(text)
  assert.equal(final.content[0].text, text)
  assert.ok(final.usage.output_tokens > 0)
}

// The package runs the tool, and asks again.
async function toolCall() {
  const places = []
  const tool = betaZodTool({
    name: 'look_up',
    description: 'Look up the weather.',
    inputSchema: Place,
    run: ({ place }) => {
      places.push(place)
      return 'It is cold.'
    },
  })
  const required = { tools: [tool], tool_choice: { type: 'any' }, max_iterations: 2 }
  await opened.beta.messages.toolRunner({ ...asked, ...required })
  assert.ok(places.length)
}

async function structuredAnswer() {
  const output_config = { format: zodOutputFormat(Weather) }
  const { parsed_output } = await opened.messages.parse({ ...asked, output_config })
  Weather.parse(parsed_output)
}

const client = new Client("Anthropic's SDK for Node", '@anthropic-ai/sdk')
await client.do('messages', 'chat', chat)
await client.do('messages', 'stream', stream)
await client.do('messages', 'tool call', toolCall)
await client.do('messages', 'structured answer', structuredAnswer)
