import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'

function load(text: string) {
  return loadConfig({ file: 'gateway.yaml', env: {}, readFile: () => text })
}

function problemOf(text: string): string {
  const result = load(text)
  if (result.kind === 'ok') throw new Error('this is no valid configuration')
  return result.problems.map(({ line, column, message }) => `${line}:${column} ${message}`).join('\n')
}

describe('store.redis', () => {
  it.each([
    ['one server', '{url: "redis://:p%40ss@redis:6379/2"}', { url: 'redis://:p%40ss@redis:6379/2' }],
    ['a server with TLS', '{url: "rediss://redis"}', { url: 'rediss://redis' }],
    ['a cluster', '{cluster: ["redis://a:1", "redis://b:2"]}', { cluster: ['redis://a:1', 'redis://b:2'] }],
    ['Sentinels', '{sentinels: ["redis://a:1"], name: main}', { sentinels: ['redis://a:1'], name: 'main' }],
  ])('takes %s', (_, text, expected) => {
    const result = load(`store: {redis: ${text}}`)
    if (result.kind === 'invalid') throw new Error(result.problems[0]?.message)
    expect(result.config.store.redis).toEqual({ prefix: 'dripgate:', timeout: 25, ...expected })
  })

  it.each([
    ['{}', 'must have exactly one of url, cluster and sentinels'],
    ['{url: "redis://a", cluster: ["redis://b"]}', 'must have exactly one of url, cluster and sentinels'],
    ['{sentinels: ["redis://a"]}', 'must have a name beside sentinels, and only there'],
    ['{url: "redis://a", name: main}', 'must have a name beside sentinels, and only there'],
    ['{url: "http://a"}', 'must be a URL such as redis://'],
    ['{url: "redis://a/x"}', 'must be a URL such as redis://'],
    ['{cluster: []}', 'store.redis.cluster'],
    ['{url: "redis://a", prefix: "a{b}"}', 'must be 1 to 64 letters'],
    ['{url: "redis://a", timeout: 0}', 'must be at least 1 ms'],
  ])('refuses %s', (text, message) => {
    expect(problemOf(`store: {redis: ${text}}`)).toContain(message)
  })

  it('does not stand beside the path of the embedded store', () => {
    expect(problemOf('store: {path: ./data, redis: {url: "redis://a"}}')).toContain(
      '1:15 store.path must not stand beside store.redis',
    )
  })

  it('never shows a password in a problem', () => {
    const result = load('store: {redis: {url: "redis://user:hunter2@a/x"}}')
    expect(JSON.stringify(result)).not.toContain('hunter2')
  })

  it('lets keyspaces switch leases off', () => {
    const result = load(
      'keyspaces: [{ksid: ks_a, name: a, keys_prefix: a_, leases: off}, {ksid: ks_b, name: b, keys_prefix: b_}]',
    )
    if (result.kind === 'invalid') throw new Error(result.problems[0]?.message)
    expect(result.config.keyspaces.map(({ leases }) => leases)).toEqual(['off', 'on'])
  })
})

describe('admin.script', () => {
  it('takes a limit, namespaces, and a Redis of its own, beside any store', () => {
    const result = load(
      'admin: {script: {limit: 5, namespaces: ["user:", "a[b]?"], redis: {url: "redis://c/1"}}}\nstore: {path: ./x}',
    )
    if (result.kind === 'invalid') throw new Error(result.problems[0]?.message)
    expect(result.config.admin.script).toEqual({
      limit: 5,
      namespaces: ['user:', 'a[b]?'],
      redis: { url: 'redis://c/1' },
    })
  })

  it.each([
    ['{limit: 0}', '1:25 admin.script.limit must be'],
    ['{limit: 1.5}', 'admin.script.limit must be'],
    ['{namespaces: ["user:*"]}', 'admin.script.namespaces[0] must be a prefix of keys such as "user:"'],
    ['{namespaces: [""]}', 'must be a prefix of keys'],
    ['{namespaces: "user:"}', 'admin.script.namespaces must be'],
    ['{redis: {}}', 'must have exactly one of url, cluster and sentinels'],
    ['{redis: {url: "redis://a", name: main}}', 'must have a name beside sentinels'],
    ['{redis: {url: "redis://a", prefix: "x:"}}', 'prefix'],
    ['{redis: {url: "redis://a", ca: /no/such/file.pem}}', 'ca '],
    ['{namespace: ["a"]}', 'did you mean "namespaces"'],
  ])('refuses %s', (text, message) => {
    const result = loadConfig({
      file: 'gateway.yaml',
      env: {},
      readFile: (file) => {
        if (file !== 'gateway.yaml') throw Object.assign(new Error('no'), { code: 'ENOENT' })
        return `admin: {script: ${text}}`
      },
    })
    const problems = result.kind === 'ok' ? [] : result.problems
    expect(
      problems.map(({ line, column, message: said }) => `${line}:${column} ${said}`).join('\n'),
    ).toContain(message)
  })
})
