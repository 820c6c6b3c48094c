import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isHostName, parseListenAddress } from '../../src/config/addresses.ts'
import { findNearestName } from '../../src/config/nearest-name.ts'
import { type Config, configSchema } from '../../src/config/schema.ts'
import { parseDurationMs, parseSizeBytes } from '../../src/config/units.ts'

const UPSTREAMS = { a: { targets: ['http://127.0.0.1:9000'] } }

function parseRoute(route: Record<string, unknown>) {
  const result = configSchema.safeParse({ upstreams: UPSTREAMS, routes: [{ upstream: 'a', ...route }] })
  return result.success
    ? { route: result.data.routes[0], message: undefined }
    : { route: undefined, message: result.error.issues[0]?.message }
}

function parseGateway(gateway: Record<string, unknown>) {
  const result = configSchema.safeParse({ gateway })
  return result.success ? result.data.gateway : result.error.issues.map((issue) => issue.message).join('; ')
}

describe('units', () => {
  test.each([
    ['500ms', 500],
    ['2s', 2000],
    ['1m', 60_000],
    ['1h', 3_600_000],
    ['1d', 86_400_000],
    ['0s', 0],
  ])('the duration %s is %d ms', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms)
  })

  test.each([
    ['64KiB', 65_536],
    ['10MiB', 10_485_760],
    ['1GiB', 1_073_741_824],
    ['7B', 7],
  ])('the size %s is %d bytes', (text, bytes) => {
    expect(parseSizeBytes(text)).toBe(bytes)
  })

  test.each(['', '5', '5 s', '-5s', '1.5s', '5S', '5sec', '5s ', '1e3ms', '10KB', '10kib'])(
    '%j is neither a duration nor a size',
    (text) => {
      expect(parseDurationMs(text)).toBeUndefined()
      expect(parseSizeBytes(text)).toBeUndefined()
    },
  )

  test('whole numbers are milliseconds and bytes as they are', () => {
    expect(parseGateway({ shutdown_timeout: 1234, max_header_bytes: 4096 })).toMatchObject({
      shutdown_timeout: 1234,
      max_header_bytes: 4096,
    })
  })

  test.each([-1, 1.5, Number.NaN, '10', 'ten', true])('the duration %j is refused in words', (value) => {
    expect(parseGateway({ shutdown_timeout: value })).toContain('must be a duration such as 500ms, 10s or 5m')
  })

  test('no timer gets more than the platform can hold', () => {
    expect(parseGateway({ shutdown_timeout: '25d' })).toBe('must be at most 2147483647 ms')
    expect(parseGateway({ shutdown_timeout: '24d' })).toMatchObject({ shutdown_timeout: 2_073_600_000 })
    expect(configSchema.parse({ store: { keep_expired: '365d' } }).store.keep_expired).toBe(31_536_000_000)
  })

  test('any whole number with a unit of time is that many units', () => {
    fc.assert(
      fc.property(fc.nat(), (n) => {
        expect(parseDurationMs(`${n}s`)).toBe(n * 1000)
        expect(parseSizeBytes(`${n}KiB`)).toBe(n * 1024)
      }),
      { seed: 7, numRuns: 100 },
    )
  })
})

describe('addresses', () => {
  test.each([
    ['127.0.0.1:8080', '127.0.0.1', 8080],
    [':8080', '0.0.0.0', 8080],
    ['[::1]:0', '::1', 0],
    ['localhost:65535', 'localhost', 65_535],
  ])('%s can be listened on', (text, host, port) => {
    expect(parseListenAddress(text)).toEqual({ host, port })
  })

  test.each([
    '8080',
    '127.0.0.1',
    '127.0.0.1:65536',
    '127.0.0.1:',
    '::1:80',
    '1.2.3:80',
    '[1.2.3.4]:80',
    'a b:80',
  ])('%j cannot be listened on', (text) => {
    expect(parseListenAddress(text)).toBeUndefined()
  })

  test.each(['-a.example', 'a-.example', 'a..b', `${'a'.repeat(64)}.example`, ''])(
    '%j is no host name',
    (text) => {
      expect(isHostName(text)).toBe(false)
    },
  )

  test('ranges are CIDRs, and a single address is a range of one', () => {
    expect(parseGateway({ trusted_proxies: ['10.0.0.0/8', '192.0.2.1', 'fd00::/8', '::1'] })).toMatchObject({
      trusted_proxies: ['10.0.0.0/8', '192.0.2.1/32', 'fd00::/8', '::1/128'],
    })
  })

  test.each(['10.0.0.0/33', '10.0.0/8', 'fe80::1%eth0/64', 'fd00::/129', '10.0.0.0/8/8', 'localhost', ''])(
    '%j is no range',
    (range) => {
      expect(parseGateway({ trusted_proxies: [range] })).toContain('must be an address range such as')
    },
  )
})

describe('targets', () => {
  function parseTarget(target: string) {
    const result = configSchema.safeParse({ upstreams: { a: { targets: [target] } } })
    return result.success ? result.data.upstreams['a']?.targets[0] : result.error.issues[0]?.message
  }

  test.each([
    ['http://127.0.0.1:9000', 'http://127.0.0.1:9000'],
    ['http://127.0.0.1:9000/', 'http://127.0.0.1:9000'],
    ['https://Orders.Internal', 'https://orders.internal'],
    ['http://[::1]:9000', 'http://[::1]:9000'],
  ])('%s becomes %s', (target, origin) => {
    expect(parseTarget(target)).toBe(origin)
  })

  test.each([
    ['http://h/path', 'must be an origin only'],
    ['http://h?q=1', 'must be an origin only'],
    ['http://h#f', 'must be an origin only'],
    ['http://u:p@h', 'must not hold credentials'],
    ['http://@h', 'must not hold credentials'],
    ['ftp://h', 'must be an origin such as'],
    ['h:9000', 'must be an origin such as'],
    ['http:/h', 'must be an origin such as'],
    ['http://h:99999', 'must be an origin such as'],
  ])('%s is refused: %s', (target, message) => {
    expect(parseTarget(target)).toContain(message)
  })
})

describe('the collector of spans', () => {
  const parse = (otlp: object) => {
    const result = configSchema.safeParse({ gateway: { tracing: { otlp } } })
    return result.success ? result.data.gateway.tracing.otlp : result.error.issues[0]?.message
  }

  test.each([
    ['http://127.0.0.1:4318', 'http://127.0.0.1:4318/v1/traces'],
    ['https://Collector.Internal/', 'https://collector.internal/v1/traces'],
    ['http://[::1]:4318/otlp/v1/traces', 'http://[::1]:4318/otlp/v1/traces'],
  ])('%s becomes %s', (endpoint, whole) => {
    expect(parse({ endpoint })).toEqual({ endpoint: whole, headers: {}, timeout: 10_000 })
  })

  test.each([
    [{ endpoint: '127.0.0.1:4318' }, 'must be a URL such as'],
    [{ endpoint: 'grpc://h:4317' }, 'must be a URL such as'],
    [{ endpoint: 'http://u:p@h' }, 'must not hold credentials'],
    [{ endpoint: 'http://h?key=1' }, 'must not hold a query'],
    [{ endpoint: 'http://h', headers: { 'Content-Type': 'a/b' } }, 'must not name Content-Type'],
    [{ endpoint: 'http://h', headers: { Host: 'a' } }, 'Invalid key in record'],
    [{ endpoint: 'http://h', timeout: 0 }, 'must be at least 1 ms'],
  ])('%j is refused: %s', (otlp, message) => {
    expect(parse(otlp)).toContain(message)
  })
})

describe('the health of targets', () => {
  const parse = (upstream: object) =>
    configSchema.safeParse({ upstreams: { a: { targets: ['http://127.0.0.1:9000'], ...upstream } } })

  test('a check needs nothing but to be wanted', () => {
    expect(parse({ health_check: {} }).data?.upstreams['a']?.health_check).toEqual({
      path: '/',
      interval: 5000,
      timeout: 2000,
      healthy_after: 1,
      unhealthy_after: 2,
      status: ['2xx', '3xx'],
    })
  })

  test.each([
    [{ health_check: { path: 'healthz' } }, 'must be a path such as /healthz, in visible ASCII without #'],
    [{ health_check: { path: '/a b' } }, 'must be a path such as /healthz, in visible ASCII without #'],
    [{ health_check: { host: 'a b' } }, 'must be a host name, with a port if need be'],
    [{ health_check: { status: ['2xy'] } }, 'must be a status from 200 to 599, or 2xx, 3xx, 4xx or 5xx'],
    [{ health_check: { interval: '1ms' } }, 'must be at least 10 ms'],
    [{ ejection: { backoff: 0 } }, 'must be at least 1 ms'],
  ])('%j is refused in words', (upstream, message) => {
    expect(parse(upstream).error?.issues.map((issue) => issue.message)).toEqual([message])
  })

  test.each(['10.0.0.53', '127.0.0.1:5353', 'fd00::53', '[fd00::53]:53'])('%s is a DNS server', (server) => {
    expect(configSchema.safeParse({ gateway: { dns: { servers: [server] } } }).success).toBe(true)
  })

  test.each(['dns.example.com', '127.0.0.1:0', '127.0.0.1:99999', 'fe80::1%eth0', ':53', ''])(
    '%j is none',
    (server) => {
      expect(configSchema.safeParse({ gateway: { dns: { servers: [server] } } }).success).toBe(false)
    },
  )
})

describe('defaults', () => {
  test('an empty mapping is a whole configuration', () => {
    expect(configSchema.parse({})).toEqual({
      gateway: {
        listen: { host: '0.0.0.0', port: 8080 },
        workers: 'auto',
        engine: 'auto',
        trusted_proxies: [],
        http2: true,
        max_header_bytes: 16_384,
        max_headers: 100,
        max_target_bytes: 8192,
        timeouts: { headers: 10_000, idle: 60_000, body: 30_000 },
        min_body_rate: 1024,
        shutdown_timeout: 10_000,
        shutdown_delay: 0,
        dns: { servers: [] },
        share_port: false,
        watch: false,
        access_log: { output: 'off' },
        tracing: { create: true, sample_ratio: 1 },
        cache: { memory: 64 * 1024 ** 2, redis_memory: 64 * 1024 ** 2 },
      },
      admin: {
        listen: { host: '127.0.0.1', port: 7131 },
        require_expiration: false,
        script: { limit: 60, namespaces: ['*'] },
      },
      store: { path: './data', cache_keys: 100_000, cache_unknown: 10_000, keep_expired: 2_592_000_000 },
      upstreams: {},
      keyspaces: [],
      routes: [],
    } satisfies Config)
  })

  test('an upstream needs its targets only, a route its upstream', () => {
    const config = configSchema.parse({ upstreams: UPSTREAMS, routes: [{ upstream: 'a' }] })
    expect(config.upstreams['a']).toEqual({
      targets: ['http://127.0.0.1:9000'],
      timeouts: { connect: 5000, response: 15_000, idle: 60_000 },
      balance: 'round_robin',
      ejection: { failures: 5, backoff: 5000, backoff_max: 300_000, max_percent: 50, count_5xx: false },
      retries: { max: 2, budget_percent: 20, budget_min: 10 },
      circuit: { failures: 200, percent: 75, open_for: 5000 },
      max_connections: 256,
      protocol: 'http1',
      tls: {},
    })
    expect(config.routes[0]).toEqual({
      name: 'route-1',
      match: { path: '/' },
      keyspaces: [],
      upstream: 'a',
      strip_path: false,
      token: { headers: ['authorization', 'x-api-key'] },
      forward_credentials: false,
      host_header: 'preserve',
      cost: 1,
      timeouts: {},
      max_body: 1_048_576,
      on_store_error: 'deny',
      deny_ips: [],
      headers: {
        request: { set: {}, add: {}, remove: [] },
        response: { set: {}, add: {}, remove: [] },
      },
      ratelimit_headers: ['ietf'],
    })
  })

  test('the result is plain data that crosses threads unchanged', () => {
    const config = configSchema.parse({ upstreams: UPSTREAMS, routes: [{ upstream: 'a' }] })
    expect(structuredClone(config)).toEqual(config)
    expect(JSON.parse(JSON.stringify(config))).toEqual(config)
  })

  test('no two results share a default', () => {
    const first = configSchema.parse({})
    first.gateway.trusted_proxies.push('10.0.0.0/8')
    expect(configSchema.parse({}).gateway.trusted_proxies).toEqual([])
  })
})

describe('routes', () => {
  test.each([
    ['/', '/'],
    ['/orders', '/orders'],
    ['/orders/', '/orders'],
    ['/a%20b', '/a%20b'],
    ['/a/b.c~d;e=f', '/a/b.c~d;e=f'],
  ])('the path %s is %s', (path, normal) => {
    expect(parseRoute({ match: { path } }).route?.match.path).toBe(normal)
  })

  test.each([
    ['orders', 'must start with /'],
    ['', 'must start with /'],
    ['/a/../b', 'must not hold the segments'],
    ['/a/%2E%2e', 'must not hold the segments'],
    ['/.', 'must not hold the segments'],
    ['/a?b', 'must not hold a query'],
    ['/a#b', 'must not hold a query'],
    ['/a//b', 'must not hold an empty segment'],
    ['//', 'must not hold an empty segment'],
    ['/a/*', 'must not hold wildcards'],
    ['/a%2Fb', 'must not hold encoded slashes'],
    ['/a\\b', 'must not hold encoded slashes'],
    ['/a b', 'must be a path as it is sent'],
    ['/caf\u00e9', 'must be a path as it is sent'],
    ['/a%zz', 'must be a path as it is sent'],
  ])('the path %j is refused: %s', (path, message) => {
    expect(parseRoute({ match: { path } }).message).toContain(message)
  })

  test('checking a path of 100,000 characters takes no time worth attacking', () => {
    const started = performance.now()
    expect(parseRoute({ match: { path: `/${'a%20'.repeat(25_000)}!\u00e9` } }).message).toContain(
      'must be a path',
    )
    expect(performance.now() - started).toBeLessThan(500)
  })

  test('keyspace and keyspaces give one list without repeats', () => {
    expect(parseRoute({ keyspace: 'ks_a' }).route?.keyspaces).toEqual(['ks_a'])
    expect(parseRoute({ keyspaces: ['ks_b', 'ks_a', 'ks_b'] }).route?.keyspaces).toEqual(['ks_b', 'ks_a'])
    expect(parseRoute({ keyspaces: [] }).route?.keyspaces).toEqual([])
    expect(parseRoute({ keyspace: 'ks_a', keyspaces: ['ks_b'] }).message).toContain('beside keyspaces')
  })

  test.each(['orders', 'ks_', 'ks_a b', `ks_${'a'.repeat(65)}`])('%j is no ksid', (keyspace) => {
    expect(parseRoute({ keyspace }).message).toContain('must be ks_ and 1 to 64')
  })

  test('max_body is a size, or null where it is unlimited', () => {
    expect(parseRoute({ max_body: 'unlimited' }).route?.max_body).toBeNull()
    expect(parseRoute({ max_body: 0 }).route?.max_body).toBe(0)
    expect(parseRoute({ max_body: '2KiB' }).route?.max_body).toBe(2048)
    expect(parseRoute({ max_body: 'none' }).message).toContain('or unlimited')
  })

  test('hosts and header names are compared in lower case, methods in upper case', () => {
    const match = {
      hosts: ['API.Example.com', '*.Example.org'],
      methods: ['get', 'GET'],
      headers: { 'X-A': 'B' },
    }
    expect(parseRoute({ match }).route?.match).toEqual({
      hosts: ['api.example.com', '*.example.org'],
      path: '/',
      methods: ['GET'],
      headers: { 'x-a': 'B' },
    })
  })

  test.each(['http://a.example', 'a.example:80', 'a.*.example', '*', '*.', 'a..b', '\u00fc.example'])(
    'the host %j is refused',
    (host) => {
      expect(parseRoute({ match: { hosts: [host] } }).message).toContain('must be a host name such as')
    },
  )

  test.each(['CONNECT', 'trace'])('no route takes %s', (method) => {
    expect(parseRoute({ match: { methods: [method] } }).message).toContain('must not be CONNECT or TRACE')
  })

  test.each([
    [{ request: { set: { Host: 'a' } } }, 'itself writes'],
    [{ request: { set: { 'Transfer-Encoding': 'chunked' } } }, 'itself writes'],
    [{ request: { set: { 'X-Dripgate-Key-Id': 'k_a' } } }, 'itself writes'],
    [{ request: { remove: ['Connection'] } }, 'itself writes'],
    [{ request: { set: { 'X-Forwarded-For': '127.0.0.1' } } }, 'itself writes'],
    [{ response: { set: { Via: 'x' } } }, 'itself writes'],
    [{ response: { remove: ['Content-Length'] } }, 'itself writes'],
    [{ response: { set: { a: 'b\r\nc: d' } } }, 'one line'],
    [{ response: { set: { a: 'b\u0000' } } }, 'one line'],
    [{ request: { set: { 'X-A': '1', 'x-a': '2' } } }, 'named once'],
  ])('the header changes %j are refused', (headers, message) => {
    const result = parseRoute({ headers })
    expect(result.route).toBeUndefined()
    const all = configSchema.safeParse({ upstreams: UPSTREAMS, routes: [{ upstream: 'a', headers }] })
    expect(JSON.stringify(all.error?.issues)).toContain(message)
  })

  test('the name that metrics use for no route is not free', () => {
    expect(parseRoute({ name: 'none' }).message).toContain('must not be "none"')
  })
})

describe('keyspaces', () => {
  function parseLimit(ratelimit: Record<string, unknown>) {
    const keyspace = { ksid: 'ks_a', name: 'a', keys_prefix: 'a_', ratelimit }
    const result = configSchema.safeParse({ keyspaces: [keyspace] })
    return result.success ? result.data.keyspaces[0]?.ratelimit : result.error.issues[0]?.message
  }

  test('limits take the numbers of the management RPC', () => {
    const most = { limit: 2 ** 31 - 1, refill_rate: 2 ** 31 - 1, refill_interval: 2 ** 53 - 1 }
    expect(parseLimit(most)).toEqual(most)
    expect(parseLimit({ limit: 1, refill_rate: 0, refill_interval: '1s' })).toEqual({
      limit: 1,
      refill_rate: 0,
      refill_interval: 1000,
    })
  })

  test('limit 0 is no limit', () => {
    expect(parseLimit({ limit: 0, refill_rate: 1, refill_interval: 1 })).toBeUndefined()
  })

  test('a limit alone is a lifetime allowance, half a refill is a mistake', () => {
    expect(parseLimit({ limit: 5 })).toEqual({ limit: 5, refill_rate: 0, refill_interval: 0 })
    expect(parseLimit({ limit: 5, refill_rate: 1 })).toContain('must have both')
    expect(parseLimit({ limit: 5, refill_interval: '1s' })).toContain('must have both')
  })

  test.each([
    { limit: -1 },
    { limit: 1.5 },
    { limit: 2 ** 31 },
    { limit: '5' },
    { limit: 5, refill_rate: 2 ** 31, refill_interval: 1 },
    { limit: 5, refill_rate: 1, refill_interval: 2 ** 53 },
    {},
  ])('the limit %j is refused', (limit) => {
    expect(parseLimit(limit)).toEqual(expect.any(String))
  })
})

describe('root token', () => {
  test('an empty one is none', () => {
    expect(configSchema.parse({ admin: { root_token: '' } }).admin.root_token).toBeUndefined()
  })

  test.each(['a'.repeat(15), 'a'.repeat(257), `${'a'.repeat(16)} `, `${'a'.repeat(16)}\u00e9`])(
    '%j is refused',
    (token) => {
      expect(configSchema.safeParse({ admin: { root_token: token } }).success).toBe(false)
    },
  )
})

describe('nearest name', () => {
  test.each([
    ['ratelimmit', 'ratelimit'],
    ['rate_limit', 'ratelimit'],
    ['Keyspace', 'keyspace'],
    ['strip-path', 'strip_path'],
    ['upsteram', 'upstream'],
  ])('%s means %s', (name, meant) => {
    expect(findNearestName(name, ['keyspace', 'ratelimit', 'strip_path', 'upstream'])).toBe(meant)
  })

  test('what is far from everything means nothing', () => {
    expect(findNearestName('colour', ['keyspace', 'upstream'])).toBeUndefined()
    expect(findNearestName('a'.repeat(100_000), ['a'.repeat(100_000)])).toBeUndefined()
  })
})
