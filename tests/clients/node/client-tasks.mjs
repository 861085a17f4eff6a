// What the programs have in common: each does tasks with one client, and prints one line of JSON
// per task. A program is called with the server's URL, without /v1, and the model's name.

import { readFileSync } from 'node:fs'

export const [url, model] = process.argv.slice(2)
export const baseURL = `${url}/v1`
export const question = 'Is it cold outside?'

export class Client {
  #name
  #version

  constructor(name, pkg) {
    this.#name = name
    this.#version = JSON.parse(readFileSync(`node_modules/${pkg}/package.json`)).version
  }

  // Do a task; `works` says in the table what works if it does not throw.
  async do(api, works, task) {
    const line = { client: this.#name, version: this.#version, api, works }
    try {
      await task()
    } catch (error) {
      line.error = error.stack
      process.exitCode = 1
    }
    console.log(JSON.stringify(line))
  }
}
