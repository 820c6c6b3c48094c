#!/usr/bin/env node
// Runs its arguments with a fit Node: `node bin/with-node.mjs script.mjs …`.
import { requireFitNode, runWithNode } from './fit-node.mjs'

runWithNode(requireFitNode(), process.argv.slice(2))
