import { Agent, request as sendRequest } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  createBody,
  createDraw,
  createPayload,
  type Draw,
  listOperations,
  type OpenApi,
  type Operation,
  type Pools,
  type Schema,
} from '../support/admin-fuzz.ts'
import { ROOT_TOKEN, type RunningGateway, startGateway } from '../support/gateway.ts'

/*
 * Who may call what, told anew from the contract (section 5, points 13 and 14, and section 6) and not
 * from the code, and held against a gateway: each operation of /openapi.json with each kind of caller,
 * then thousands of random requests. DRIPGATE_ADMIN_REQUESTS=100000 is the long form, DRIPGATE_SEED
 * repeats a run.
 */

const REQUESTS = Number(process.env['DRIPGATE_ADMIN_REQUESTS'] ?? 3000)
const SEED = Number(process.env['DRIPGATE_SEED'] ?? Date.now() % 2 ** 31)
const CONCURRENCY = 8
const UNKNOWN_KSID = 'ks_nowhere'

type Rule = 'read' | 'write' | 'admin' | 'anybody' | 'itself' | 'not-itself' | 'script'

/** An operation that is not here is new: give it the rule that its documentation promises. */
const RULES: Readonly<Record<string, Rule>> = {
  'keys.check': 'read',
  'keys.get': 'read',
  'keys.list': 'read',
  'keys.create': 'write',
  'keys.delete': 'write',
  'keys.update': 'write',
  'keys.rotate': 'write',
  'keyspaces.get': 'read',
  'keyspaces.list': 'anybody',
  'keyspaces.create': 'admin',
  'keyspaces.update': 'admin',
  'keyspaces.delete': 'admin',
  'serviceKeys.current': 'anybody',
  'serviceKeys.get': 'itself',
  'serviceKeys.set_token': 'itself',
  'serviceKeys.list': 'admin',
  'serviceKeys.create': 'admin',
  'serviceKeys.update': 'admin',
  'serviceKeys.delete': 'not-itself',
  'config.reload': 'admin',
  '/script/invalidate-cache': 'script',
  '/script/remove-redis-keys': 'script',
  '/script/get-redis-keys': 'script',
  '/script/set-redis-keys': 'script',
}

interface Policy {
  readonly read?: boolean
  readonly write?: boolean
}

interface Caller {
  readonly label: string
  /** Undefined: none is sent. */
  readonly token: string | undefined
  readonly isKnown: boolean
  readonly skid: string
  readonly isAdmin: boolean
  readonly policies: Readonly<Record<string, Policy>>
  readonly roles: readonly string[]
}

interface Answer {
  readonly status: number
  readonly allow: string | undefined
  readonly text: string
}

interface World {
  readonly gateway: RunningGateway
  readonly openApi: OpenApi
  readonly operations: readonly Operation[]
  readonly callers: readonly Caller[]
  readonly powerful: readonly Caller[]
  readonly pools: Pools
  /** For what would take away something that the others need. */
  readonly victims: Pools
}

let world: World
const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY })

beforeAll(async () => {
  world = await createWorld()
})
afterAll(async () => {
  agent.destroy()
  await world?.gateway.stop()
})

it('has a rule for each operation of the OpenAPI document, and no rule more', () => {
  const operations = world.operations.map(({ name }) => name)
  expect(operations.toSorted(), 'add a rule to RULES').toEqual(Object.keys(RULES).toSorted())
})

it('lets each kind of caller do what the policy table says, and nothing else', async () => {
  const wrong: string[] = []
  const draw = createDraw(SEED)
  for (const operation of world.operations) {
    for (const caller of world.callers) {
      for (const pools of mayDestroy(operation, caller) ? [world.victims] : [world.pools, world.victims]) {
        const body = createSound(draw, operation, { ...pools, ...ownIds(caller, operation) })
        const answer = await send(operation.path, caller, Buffer.from(JSON.stringify(body)))
        const isRefused = answer.status === 401 || answer.status === 403
        const may = isAllowed(operation, caller, body)
        if (isRefused === may || isInvalid(answer)) {
          wrong.push(
            `${operation.name} by ${caller.label}: ${answer.status} ${answer.text} for ${JSON.stringify(body)}`,
          )
        }
      }
    }
  }
  expect(wrong).toEqual([])
})

it(`answers ${REQUESTS} random requests as documented (seed ${SEED})`, {
  timeout: 20_000 + REQUESTS * 20,
}, async () => {
  const draw = createDraw(SEED)
  const byStatus = new Map<number, number>()
  let left = REQUESTS
  const work = async () => {
    while (left-- > 0) {
      const { problem, status } = await sendRandom(draw)
      byStatus.set(status, (byStatus.get(status) ?? 0) + 1)
      if (problem !== undefined) throw new Error(`${problem} (seed ${SEED})`)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, work))
  const told = [...byStatus].toSorted(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`)
  process.stderr.write(`admin fuzz, seed ${SEED}: ${told.join(', ')}\n`)
  const rare = REQUESTS >= 50_000 ? [409, 419, 429, 460] : []
  for (const status of [200, 400, 401, 403, 404, 405, 422, ...rare])
    expect(byStatus.get(status), `${status}`).toBeGreaterThan(0)
  expect(Math.max(...byStatus.keys())).toBeLessThan(500)
  expect((await fetch(`${world.gateway.adminUrl}/readyz`)).status).toBe(200)
})

/** Sends one request, and says what is wrong with its answer. */
async function sendRandom(draw: Draw): Promise<{ status: number; problem?: string }> {
  // Half of them from those who may do much, so that what lies behind the refusals is reached.
  const caller = draw.pick(draw.chance(0.5) ? world.powerful : world.callers)
  let operation = draw.pick(world.operations)
  // Each one reads and checks a whole configuration.
  if (operation.name === 'config.reload' && caller.isAdmin && draw.chance(0.95))
    operation = draw.pick(world.operations)
  if (draw.chance(0.03)) return sendAstray(draw, operation, caller)
  const pools = {
    ...(mayDestroy(operation, caller) ? world.victims : world.pools),
    ...ownIds(caller, operation),
  }
  const body = createBody(draw, toSchema(operation), pools)
  const payload = createPayload(draw, body)
  const type = draw.chance(0.95)
    ? 'application/json'
    : draw.pick(['text/plain', 'application/json; charset=utf-8', ''])
  const answer = await send(operation.path, caller, payload, { type })
  const problem = judge(operation, caller, payload, answer)
  if (problem === undefined) return { status: answer.status }
  const shown = payload.toString('latin1').slice(0, 500)
  return {
    status: answer.status,
    problem: `${operation.name} by ${caller.label} with ${type} ${shown}: ${answer.status} ${answer.text.slice(0, 300)}: ${problem}`,
  }
}

function judge(operation: Operation, caller: Caller, payload: Buffer, answer: Answer): string | undefined {
  const { status, text } = answer
  if (status >= 500) return 'a server error'
  if (!operation.statuses.has(status)) return 'not documented'
  try {
    JSON.parse(text)
  } catch {
    return 'no JSON'
  }
  if (!caller.isKnown) return status === 401 ? undefined : 'not refused at once'
  const body = toObject(payload)
  const isRefused = status === 401 || status === 403
  const isIllFormed = status === 400 || status === 413 || status === 422
  if (body === undefined)
    return isIllFormed || operation.params === undefined || isRefused ? undefined : 'no JSON, and accepted'
  const may = isAllowed(operation, caller, body)
  // A script's keys may be outside of its namespaces, which all are inside of here.
  if (may && isRefused) return 'refused'
  return may || isRefused || isIllFormed ? undefined : 'not refused'
}

/** Other methods and paths than there are: told so before anybody is asked for a token. */
async function sendAstray(
  draw: Draw,
  operation: Operation,
  caller: Caller,
): Promise<{ status: number; problem?: string }> {
  const isMethod = draw.chance(0.5)
  const method = isMethod ? draw.pick(['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) : 'POST'
  const path = isMethod
    ? operation.path
    : draw.pick([
        `${operation.path}/`,
        operation.path.toUpperCase(),
        `${operation.path}%00`,
        `/v1/${'x'.repeat(500)}`,
        '/v1/__proto__',
        `//v1/keys.create`,
      ])
  const answer = await send(path, caller, Buffer.from('{}'), { method })
  const expected = isMethod ? 405 : 404
  const isRight = answer.status === expected && (!isMethod || answer.allow !== undefined)
  return {
    status: answer.status,
    ...(isRight ? {} : { problem: `${method} ${path}: ${answer.status} ${answer.text}` }),
  }
}

/** The policy table. A body that is not valid may be refused as such first. */
function isAllowed({ name }: Operation, caller: Caller, body: Readonly<Record<string, unknown>>): boolean {
  if (!caller.isKnown) return false
  const { ksid, skid, token } = body
  const rule = RULES[name]
  switch (rule) {
    case 'anybody':
      return true
    case 'admin':
      return caller.isAdmin
    case 'read':
    case 'write':
      return caller.isAdmin || [ksid, '*'].some((id) => caller.policies[String(id)]?.[rule] === true)
    case 'itself':
      if (caller.isAdmin) return true
      if (skid === undefined || skid === null || skid === '')
        return name.endsWith('.get') && token === caller.token
      return skid === caller.skid
    case 'not-itself':
      return caller.isAdmin && skid !== caller.skid
    case 'script':
      return caller.roles.includes('SCRIPT')
    default:
      throw new Error(`${name} has no rule`)
  }
}

/** Whether the call takes away what others need; those get something that nobody needs. */
function mayDestroy({ name }: Operation, caller: Caller): boolean {
  return caller.isAdmin && /\.(delete|update|set_token|rotate)$/.test(name)
}

/** Its own id more often than others, but never where it could lose its token. */
function ownIds({ isAdmin, skid, isKnown }: Caller, { name }: Operation): Pools {
  if (!isKnown || isAdmin || skid === '') return {}
  const others = (world.pools['skid'] ?? []).filter((other) => other !== skid)
  return { skid: name === 'serviceKeys.set_token' ? others : [skid, ...others] }
}

function isInvalid({ status }: Answer): boolean {
  return status === 400 || status === 422 || status >= 500
}

function createSound(draw: Draw, operation: Operation, pools: Pools): Record<string, unknown> {
  const first = Object.fromEntries(Object.entries(pools).map(([name, ids]) => [name, ids[0] ?? '']))
  const { ksid = '', skid = '', kid = '', token = '' } = first
  const serial = draw.int(1e9).toString(36)
  const isNew = { name: `sound ${serial}`, keys_prefix: `s${serial}_`.slice(0, 16) }
  switch (operation.name) {
    case 'keyspaces.create':
      return isNew
    case 'serviceKeys.create':
      return { description: 'sound' }
    case 'serviceKeys.set_token':
      return { skid, token: `a-token-made-by-hand-${serial}` }
    case '/script/invalidate-cache':
      return { key: 'user:1' }
    case '/script/set-redis-keys':
      return { key: 'user:1', value: 'x', ttl: 60 }
    case '/script/get-redis-keys':
    case '/script/remove-redis-keys':
      return { keys: ['user:1'] }
    default:
      return { ksid, skid, kid, ...(operation.name === 'keys.check' ? { token } : {}) }
  }
}

function toSchema({ params }: Operation): Schema {
  const name = params?.$ref?.split('/').at(-1)
  return name === undefined ? (params ?? { type: 'object' }) : (world.openApi.components.schemas[name] ?? {})
}

/** Nothing, blanks and `null` are as good as `{}`. */
function toObject(payload: Buffer): Record<string, unknown> | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(payload)
    const parsed = text.trim() === '' ? {} : (JSON.parse(text) ?? {})
    return typeof parsed === 'object' && !Array.isArray(parsed) ? parsed : undefined
  } catch {
    return undefined
  }
}

function send(
  path: string,
  caller: Caller,
  payload: Buffer,
  { method = 'POST', type = 'application/json' } = {},
): Promise<Answer> {
  const headers = {
    'content-length': payload.length,
    ...(type === '' ? {} : { 'content-type': type }),
    ...(caller.token === undefined ? {} : { authorization: `Bearer ${caller.token}` }),
  }
  return new Promise((resolve, reject) => {
    const request = sendRequest(world.gateway.adminUrl + path, { method, headers, agent }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          allow: response.headers.allow,
          text: Buffer.concat(chunks).toString(),
        }),
      )
    })
    request.on('error', reject)
    request.end(payload)
  })
}

async function createWorld(): Promise<World> {
  const gateway = await startGateway({
    config: { gateway: { workers: 1 }, admin: { script: { limit: 100_000 } } },
  })
  const create = async (name: string, params: object) => {
    const { status, body } = await gateway.rpc(name, params)
    if (status !== 200) throw new Error(`${name}: ${status} ${JSON.stringify(body)}`)
    return body as Record<string, string>
  }
  const [mine = '', foreign = '', ...doomed] = await Promise.all(
    Array.from({ length: 42 }, async (_, index) => {
      const { ksid = '' } = await create('keyspaces.create', {
        name: `space ${index}`,
        keys_prefix: `p${index}_`,
      })
      return ksid
    }),
  )
  const keys = await Promise.all(
    [mine, foreign, ...doomed].map((ksid) => create('keys.create', { ksid, ratelimit: { limit: 5 } })),
  )
  const victims = await Promise.all(Array.from({ length: 40 }, () => create('serviceKeys.create', {})))
  const unknown: Caller = {
    label: '',
    token: undefined,
    isKnown: false,
    skid: '',
    isAdmin: false,
    policies: {},
    roles: [],
  }
  const callers: Caller[] = [
    { ...unknown, label: 'nobody' },
    { ...unknown, label: 'a stranger', token: 'sk_of-a-stranger-0123456789' },
    { ...unknown, label: 'root', token: ROOT_TOKEN, isKnown: true, isAdmin: true },
  ]
  const add = async (
    label: string,
    own: { admin?: boolean; policies?: Caller['policies']; roles?: string[] },
  ) => {
    const { admin = false, policies = {}, roles = [] } = own
    const { skid = '', token = '' } = await create('serviceKeys.create', {
      admin,
      keyspaces_policies: policies,
      roles,
    })
    callers.push({ label, token, isKnown: true, skid, isAdmin: admin, policies, roles })
  }
  await add('an admin', { admin: true })
  await add('a service key without policies', {})
  await add('a reader', { policies: { [mine]: { read: true } } })
  await add('a writer', { policies: { [mine]: { write: true } } })
  await add('a reader and writer', { policies: { [mine]: { read: true, write: true } } })
  await add('a reader of another keyspace', { policies: { [foreign]: { read: true, write: true } } })
  await add('a reader of all', { policies: { '*': { read: true } } })
  await add('a writer of all', { policies: { '*': { write: true } } })
  await add('a script', { roles: ['SCRIPT'] })
  // Not so long ago that the key would be swept away.
  const past = { ksid: mine, expires_at: new Date(Date.now() - 3_600_000).toISOString() }
  const passing = await Promise.all(
    Array.from({ length: 40 }, async () => (await create('keys.create', { ksid: mine }))['kid'] ?? ''),
  )
  const expired = await create('keys.create', past)
  const strict = { name: 'strict', keys_prefix: 'strict_', require_expiration: true }
  const { ksid: demanding = '' } = await create('keyspaces.create', strict)
  const openApi = (await (await fetch(`${gateway.adminUrl}/openapi.json`)).json()) as OpenApi
  const [own, other, ...lost] = keys
  return {
    gateway,
    openApi,
    operations: listOperations(openApi),
    callers,
    powerful: callers.filter(({ isAdmin, policies }) => isAdmin || policies[mine]?.write === true),
    pools: {
      ksid: [mine, mine, mine, foreign, demanding, UNKNOWN_KSID],
      // Not those whose tokens are below: they would not live long.
      kid: [...passing, 'k_nowhere'],
      skid: ['sk_nowhere', ...callers.map(({ skid }) => skid).filter((skid) => skid !== '')],
      token: [own?.['token'] ?? '', other?.['token'] ?? '', expired['token'] ?? '', 'a-token-of-nobody'],
    },
    victims: {
      ksid: [...doomed, UNKNOWN_KSID],
      kid: lost.map((key) => key['kid'] ?? ''),
      skid: victims.map((key) => key['skid'] ?? ''),
      token: ['a-token-of-a-victim-1', 'a-token-of-a-victim-2'],
    },
  }
}
