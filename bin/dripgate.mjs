#!/usr/bin/env node
// Starts the command line on a fit Node: in this process where the running Node is one.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isRunningNodeFit, requireFitNode, runWithNode } from './fit-node.mjs'

const source = new URL('../src/main.ts', import.meta.url)
const main = existsSync(source) ? source : new URL('../dist/main.js', import.meta.url)

if (isRunningNodeFit()) await import(main.href)
else runWithNode(requireFitNode(), [fileURLToPath(main), ...process.argv.slice(2)], { watched: true })
