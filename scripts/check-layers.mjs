// Checks who imports whom in src (docs: "Layers"). `node scripts/check-layers.mjs [PROJECT]`.
// It reads the syntax tree and not the text, so that no import hides in a comment or a string;
// and it fails when it found no module, so that a moved tree cannot make it pass.
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseSync, visitorKeys } from 'oxc-parser'

const COMPOSITION = ['config', 'stores', 'telemetry', 'data-plane', 'control-plane', 'app', 'ports', 'domain']

/** Layer → the other layers it may import. Whatever has no entry here belongs nowhere. */
const MAY_IMPORT = {
  main: ['gateway', 'worker', 'storage-worker', 'demo', 'threads', 'thread-messages', ...COMPOSITION],
  demo: ['gateway', ...COMPOSITION],
  gateway: [
    'v8-tuning',
    'worker',
    'storage-worker',
    'certificates',
    'threads',
    'thread-messages',
    'reload',
    ...COMPOSITION,
  ],
  reload: COMPOSITION,
  threads: ['thread-messages', ...COMPOSITION],
  certificates: COMPOSITION,
  worker: ['gateway', 'storage-worker', 'thread-messages', 'v8-tuning', ...COMPOSITION],
  'v8-tuning': [],
  'storage-worker': ['gateway', 'worker', 'thread-messages', ...COMPOSITION],
  'thread-messages': COMPOSITION,
  'data-plane': ['app', 'ports', 'domain'],
  'control-plane': ['app', 'ports', 'domain'],
  stores: ['ports', 'domain'],
  telemetry: ['ports', 'domain'],
  config: ['domain'],
  app: ['ports', 'domain'],
  ports: ['domain'],
  domain: [],
}

/** The shape of the config is known to all (but the domain), as a type. */
const CONFIG_SCHEMA = 'config/schema.ts'
const TRANSPORTS = ['node:http', 'node:https', 'node:http2', 'undici', 'http-proxy-3']
const TRANSPORT_SEAMS = ['data-plane/front/', 'data-plane/upstream/']
const IMPURE_OBJECTS = ['performance', 'process', 'crypto', 'Promise']
const IMPURE_CALLS = ['Date', 'setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'fetch']

const project = process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url))
const src = path.join(project, 'src')
const { modules, violations } = checkLayers()
for (const violation of violations) console.error(violation)
console.log(`layers: ${modules} modules examined, ${violations.length} violations`)
if (modules === 0) console.error('layers: no module was examined, so nothing was checked')
if (modules === 0 || violations.length > 0) process.exit(1)

function checkLayers() {
  const trees = new Map(listModules().map((file) => [file, parseModule(file)]))
  const edges = new Map()
  const violations = []
  for (const [file, { program, errors }] of trees) {
    const report = (node, text) => violations.push(`src/${file}:${lineOf(file, node.start)}: ${text}`)
    for (const error of errors) report({ start: error.labels[0]?.start ?? 0 }, error.message)
    if (MAY_IMPORT[layerOf(file)] === undefined) {
      report(program, `is in no layer; put it into one, or name it in ${path.basename(import.meta.filename)}`)
      continue
    }
    const imports = collectImports(program)
    for (const found of imports) checkImport(file, found, trees, (text) => report(found.node, text))
    if (layerOf(file) === 'domain') checkPurity(program, report)
    edges.set(
      file,
      imports.map((found) => toModule(file, found)).filter((target) => trees.has(target)),
    )
  }
  for (const cycle of findCycles(edges))
    violations.push(`src/${cycle[0]}: import cycle: ${cycle.join(' -> ')}`)
  return { modules: trees.size, violations }
}

function listModules() {
  return readdirSync(src, { recursive: true, encoding: 'utf8' })
    .map((name) => name.split(path.sep).join('/'))
    .filter((name) => name.endsWith('.ts'))
    .sort()
}

function parseModule(file) {
  return parseSync(file, readFileSync(path.join(src, file), 'utf8'))
}

function lineOf(file, offset) {
  return readFileSync(path.join(src, file), 'utf8').slice(0, offset).split('\n').length
}

/** `stores/embedded/x.ts` → `stores`; `worker.ts` → `worker`. */
function layerOf(file) {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.ts$/, '')
}

/** Every import and export-from; `specifier` is undefined where it is computed. */
function collectImports(program) {
  const found = []
  const add = (node, source, typeOnly) => {
    if (source !== null) found.push({ node, specifier: literalOf(source), typeOnly })
  }
  walk(program, (node) => {
    // Only `import type` is free at run time: `import { type X }` still loads the module.
    if (node.type === 'ImportDeclaration') add(node, node.source, node.importKind === 'type')
    if (node.type === 'ExportAllDeclaration') add(node, node.source, node.exportKind === 'type')
    if (node.type === 'ExportNamedDeclaration') add(node, node.source, node.exportKind === 'type')
    if (node.type === 'ImportExpression') add(node, node.source, false)
    if (node.type === 'TSImportType') add(node, node.source, true)
    if (node.type === 'TSExternalModuleReference') add(node, node.expression, false)
    if (node.type === 'CallExpression' && node.callee.name === 'require')
      add(node, node.arguments[0] ?? {}, false)
  })
  return found
}

function literalOf(source) {
  if (source.type === 'Literal' && typeof source.value === 'string') return source.value
  if (source.type === 'TemplateLiteral' && source.quasis.length === 1) return source.quasis[0].value.cooked
  return undefined
}

function walk(node, visit) {
  visit(node)
  for (const key of visitorKeys[node.type] ?? []) {
    for (const child of [node[key]].flat()) {
      if (child !== null && child !== undefined) walk(child, visit)
    }
  }
}

function isRelative(specifier) {
  return specifier.startsWith('.') || specifier.startsWith('/')
}

function toModule(file, { specifier }) {
  if (specifier === undefined || !isRelative(specifier)) return undefined
  return path.posix.join(path.posix.dirname(file), specifier)
}

function checkImport(file, found, trees, report) {
  const { specifier, typeOnly } = found
  if (specifier === undefined) return report('imports a computed name, which cannot be checked')
  if (!isRelative(specifier)) return checkExternal(file, specifier, typeOnly, report)
  const target = toModule(file, found)
  if (target === '../package.json') return
  if (!trees.has(target)) return report(`imports ${specifier}, which is no module of src`)
  const [from, to] = [layerOf(file), layerOf(target)]
  if (from === to || MAY_IMPORT[from].includes(to)) return
  if (typeOnly && target === CONFIG_SCHEMA && from !== 'domain') return
  report(`${from} must not import ${to} (${specifier})`)
}

function checkExternal(file, specifier, typeOnly, report) {
  const layer = layerOf(file)
  const name = specifier.startsWith('@') ? specifier : (specifier.split('/')[0] ?? specifier)
  if (layer === 'domain') report(`domain must import nothing from outside (${specifier})`)
  if (layer === 'ports' && !typeOnly) report(`ports must import only types from outside (${specifier})`)
  if (layer === 'app' && specifier !== 'node:crypto') {
    report(`app must import nothing from outside but node:crypto (${specifier})`)
  }
  const transport = TRANSPORTS.includes(name) || TRANSPORTS.includes(`node:${name}`)
  if (transport && layer === 'data-plane' && !TRANSPORT_SEAMS.some((seam) => file.startsWith(seam))) {
    report(`only ${TRANSPORT_SEAMS.join(' and ')} may import ${specifier} in the data plane`)
  }
}

/** The domain has no clock, no chance and no promise; they come in as arguments. */
function checkPurity(program, report) {
  walk(program, (node) => {
    const impure = impurityOf(node)
    if (impure !== undefined) report(node, `domain must be pure, without ${impure}`)
  })
}

function impurityOf(node) {
  if (node.async === true || node.type === 'AwaitExpression') return 'async'
  if (node.type === 'TSTypeReference' && node.typeName.name === 'Promise') return 'Promise'
  if (node.type === 'NewExpression' && node.callee.name === 'Promise') return 'Promise'
  if (node.type === 'NewExpression' && node.callee.name === 'Date' && node.arguments.length === 0)
    return 'Date'
  if (node.type === 'CallExpression' && IMPURE_CALLS.includes(node.callee.name)) return node.callee.name
  if (node.type !== 'MemberExpression') return undefined
  const member = `${node.object.name}.${node.property.name}`
  if (member === 'Date.now' || member === 'Math.random') return member
  return IMPURE_OBJECTS.includes(node.object.name) ? node.object.name : undefined
}

/** One cycle for each edge that closes one, each starting at the module that was entered first. */
function findCycles(edges) {
  const cycles = []
  const done = new Set()
  const visit = (file, trail) => {
    if (trail.includes(file)) return cycles.push([...trail.slice(trail.indexOf(file)), file])
    if (done.has(file)) return
    for (const target of edges.get(file) ?? []) visit(target, [...trail, file])
    done.add(file)
  }
  for (const file of edges.keys()) visit(file, [])
  return cycles
}
