import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { extractCredential } from '../../src/data-plane/credentials.ts'
import { buildForwardTarget } from '../../src/data-plane/forward-target.ts'
import { buildSteadyFields } from '../../src/data-plane/headers.ts'
import type { Route } from '../../src/data-plane/route.ts'
import { acceptHead, compileOne, valuesOf } from '../support/routes.ts'

const EVERYWHERE = {
  headers: ['authorization', 'basic', 'x-api-key', 'x_token'],
  query: 'api_key',
  cookie: 'sid',
}
const plain = compileOne({ keyspace: 'ks_a' })
const everywhere = compileOne({ keyspace: 'ks_a', token: EVERYWHERE })

/** The token, or the kind of what else was found. */
function read(route: Route, rawHeaders: readonly string[], query = ''): string {
  const credential = extractCredential(route, rawHeaders, query)
  return credential.kind === 'token' ? `token ${credential.token}` : credential.kind
}

function forward(route: Route, rawHeaders: readonly string[]): string[] {
  return buildSteadyFields({
    route,
    head: acceptHead(),
    rawHeaders,
    client: { address: '192.0.2.1', peer: '192.0.2.1', isPeerTrusted: false },
    protocol: 'http',
    requestId: 'r1',
    kid: undefined,
    ksid: undefined,
    upstreamHost: '127.0.0.1:9000',
  })
}

function basic(pair: string): string {
  return `Basic ${Buffer.from(pair, 'latin1').toString('base64')}`
}

describe('a token', () => {
  it.each([
    [['Authorization', 'Bearer T'], 'token T'],
    [['AUTHORIZATION', 'bEARER   T'], 'token T'],
    [['X-API-KEY', 'K'], 'token K'],
    [['X-Api-Key', 'K', 'Authorization', 'Bearer T'], 'token T'],
    [['Authorization', 'Basic eDp5', 'X-API-KEY', 'K'], 'token K'],
    [['Authorization', 'Bearer', 'X-API-KEY', 'K'], 'token K'],
    [['Authorization', 'Bearer ', 'X-API-KEY', 'K'], 'token K'],
    [['Authorization', 'BearerT'], 'missing'],
    [['Authorization', 'Bearer\tT'], 'missing'],
    [['Authorization', 'T'], 'missing'],
    [['Authorization', ''], 'missing'],
    [['X-API-KEY', ''], 'missing'],
    [['X_API_KEY', 'K'], 'missing'],
    [['Cookie', 'sid=C'], 'missing'],
    [[], 'missing'],
    [['Authorization', 'Bearer a, Bearer b'], 'token a, Bearer b'],
    [['X-API-KEY', 'caf\xc3\xa9'], 'token caf\xc3\xa9'],
  ])('in %j is read by default as: %s', (rawHeaders, expected) => {
    expect(read(plain, rawHeaders, 'api_key=Q')).toBe(expected)
  })

  it.each([
    [['Authorization', basic('user:T')], '', 'token T'],
    [['Authorization', basic('T:')], '', 'token T'],
    [['Authorization', basic(':T')], '', 'token T'],
    [['Authorization', basic('u:a:b')], '', 'token a:b'],
    [['Authorization', basic('T')], '', 'missing'],
    [['Authorization', 'Basic %%%'], '', 'missing'],
    [['Authorization', basic(':')], 'api_key=Q', 'token Q'],
    [['X_Token', 'H'], 'api_key=Q', 'token H'],
    [[], 'api_key=Q', 'token Q'],
    [[], 'x=1&api_key=a%2Bb+c%3d%&y', 'token a+b+c=%'],
    [[], 'api%5Fkey=Q', 'token Q'],
    [[], 'API_KEY=Q', 'missing'],
    [[], 'xapi_key=Q&api_keyx=R', 'missing'],
    [[], 'api_key', 'missing'],
    [[], 'api_key=', 'missing'],
    [[], 'api_key==', 'token ='],
    [['Cookie', 'sid=C'], 'api_key=', 'token C'],
    [['Cookie', 'a=b; sid = C ;c'], '', 'token C'],
    [['Cookie', 'xsid=C; sidx=D; SID=E; sid'], '', 'missing'],
    [['Cookie', 'a=1', 'cookie', 'sid=a=b'], '', 'token a=b'],
  ])('in %j with the query %j is read where the route says so as: %s', (rawHeaders, query, expected) => {
    expect(read(everywhere, rawHeaders, query)).toBe(expected)
  })

  it.each([
    [['Authorization', 'Bearer a', 'authorization', 'Bearer b'], ''],
    [['Authorization', 'Bearer a', 'authorization', basic('u:p')], ''],
    [['Authorization', 'Bearer a', 'authorization', ''], ''],
    [['Authorization', 'Bearer a', 'X-API-KEY', 'k', 'x-api-key', 'l'], ''],
    [['Authorization', 'Bearer a'], 'api_key=k&api_key=l'],
    [['Authorization', 'Bearer a'], 'api_key=k&api%5fkey=l'],
    [[], 'api_key=k&api_key='],
    [['Cookie', 'sid=a; sid=b'], ''],
    [['Cookie', 'sid=a', 'Cookie', 'sid=b'], ''],
    [['Authorization', 'Bearer a', 'Cookie', 'sid=a; sid'], ''],
  ])('is a conflict in %j with the query %j: one field, two values', (rawHeaders, query) => {
    expect(read(everywhere, rawHeaders, query)).toBe('conflict')
  })

  it('that is said twice alike is no conflict', () => {
    expect(read(plain, ['Authorization', 'Bearer a', 'authorization', 'Bearer a'])).toBe('token a')
    expect(read(everywhere, [], 'api_key=k&api_key=%6b')).toBe('token k')
    expect(read(everywhere, ['Cookie', 'sid=a; sid=a'])).toBe('token a')
  })

  it('is not looked for on an open route, where everything is forwarded', () => {
    const open = compileOne({ token: EVERYWHERE })
    const rawHeaders = ['Authorization', 'Bearer a', 'Authorization', 'Bearer b', 'Cookie', 'sid=C']
    expect(read(open, rawHeaders, 'api_key=Q')).toBe('missing')
    expect(valuesOf(forward(open, rawHeaders), 'authorization')).toEqual(['Bearer a', 'Bearer b'])
    expect(valuesOf(forward(open, rawHeaders), 'cookie')).toEqual(['sid=C'])
    expect(buildForwardTarget(open, acceptHead({ target: '/?api_key=Q' }))).toBe('/?api_key=Q')
  })

  it('in a query of 1 MiB is found in linear time', () => {
    for (const query of ['&'.repeat(2 ** 20), 'a&'.repeat(2 ** 19), 'a=%61&'.repeat(170_000)]) {
      const start = performance.now()
      expect(read(everywhere, ['Cookie', query.replaceAll('&', ';')], query)).toBe('missing')
      expect(performance.now() - start).toBeLessThan(2000)
    }
  })
})

describe('the places of tokens', () => {
  it('are not forwarded, used or not', () => {
    const headers = forward(everywhere, [
      ...[
        'Authorization',
        'Digest x',
        'X-API-KEY',
        'K',
        'X_API_KEY',
        'K',
        'x_token',
        'H',
        'X-Token',
        'stays',
      ],
      ...['Cookie', 'a=1; sid=C; b=2', 'Cookie', 'sid=C', 'Cookie', 'sid; c=3', 'Accept', '*/*'],
    ])
    expect(valuesOf(headers, 'authorization')).toEqual([])
    expect(valuesOf(headers, 'x-api-key')).toEqual([])
    expect(valuesOf(headers, 'x_api_key')).toEqual([])
    expect(valuesOf(headers, 'x_token')).toEqual([])
    expect(valuesOf(headers, 'x-token')).toEqual(['stays'])
    expect(valuesOf(headers, 'cookie')).toEqual(['a=1; b=2', 'c=3'])
    expect(valuesOf(headers, 'accept')).toEqual(['*/*'])
  })

  it('that the route does not read are forwarded', () => {
    const headers = forward(compileOne({ keyspace: 'ks_a', token: { headers: ['x-api-key'] } }), [
      ...['Authorization', 'Bearer app', 'X-API-KEY', 'K', 'Cookie', 'sid=C'],
    ])
    expect(valuesOf(headers, 'authorization')).toEqual(['Bearer app'])
    expect(valuesOf(headers, 'x-api-key')).toEqual([])
    expect(valuesOf(headers, 'cookie')).toEqual(['sid=C'])
  })

  it('are forwarded where the route says so', () => {
    const route = compileOne({ keyspace: 'ks_a', token: EVERYWHERE, forward_credentials: true })
    const headers = forward(route, ['Authorization', 'Bearer T', 'X-API-KEY', 'K', 'Cookie', 'sid=C'])
    expect(valuesOf(headers, 'authorization')).toEqual(['Bearer T'])
    expect(valuesOf(headers, 'x-api-key')).toEqual(['K'])
    expect(valuesOf(headers, 'cookie')).toEqual(['sid=C'])
    expect(buildForwardTarget(route, acceptHead({ target: '/?api_key=Q' }))).toBe('/?api_key=Q')
  })

  it.each([
    ['/?api_key=Q', '/'],
    ['/?a=1&api_key=Q&b=%20', '/?a=1&b=%20'],
    ['/?api_key=Q&a', '/?a'],
    ['/?a&api_key=Q', '/?a'],
    ['/?api_key=Q&&a', '/?&a'],
    ['/?api_key=Q&api%5Fkey=Q&api_key', '/'],
    ['/?api_keyx=1&&=&?', '/?api_keyx=1&&=&?'],
    ['/?', '/?'],
    ['/', '/'],
  ])('leave of %s the target %s', (target, expected) => {
    expect(buildForwardTarget(everywhere, acceptHead({ target }))).toBe(expected)
  })

  it('lose nothing but themselves from any query', () => {
    const pair = fc.constantFrom(
      'a=1',
      'api_key=SECRET',
      'b',
      '',
      '=',
      'api%5fkey=SECRET',
      'c=%zz',
      'api_key',
      'x_api_key=1',
    )
    fc.assert(
      fc.property(fc.array(pair, { minLength: 1, maxLength: 8 }), (pairs) => {
        const target = buildForwardTarget(everywhere, acceptHead({ target: `/p?${pairs.join('&')}` }))
        const kept = pairs.filter((text) => !/^api(_|%5f)key(=|$)/.test(text))
        expect(target).toBe(kept.length === 0 ? '/p' : `/p?${kept.join('&')}`)
      }),
    )
  })
})
