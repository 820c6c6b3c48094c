import { describe, expect, it } from 'vitest'
import { checkRequestHead, type ReceivedHead } from '../../src/data-plane/request-check.ts'
import { acceptHead, LIMITS } from '../support/routes.ts'

const HOST = ['Host', 'example.com']

/** The code of the refusal, or `head`. */
function check(received: Partial<ReceivedHead>): string {
  const head = checkRequestHead(
    { method: 'GET', target: '/', httpVersion: '1.1', rawHeaders: HOST, ...received },
    LIMITS,
  )
  return head.kind === 'fault' ? head.code : head.kind
}

function checkFields(...rawHeaders: string[]): string {
  return check({ method: 'POST', rawHeaders: [...HOST, ...rawHeaders] })
}

describe('a request head', () => {
  it('that is sound is taken apart', () => {
    const head = acceptHead({
      method: 'POST',
      target: '/a/b?x=1?y',
      rawHeaders: ['hOST', 'API.Example.com.:8080', 'Content-Length', '12', 'Expect', '100-Continue'],
    })
    expect(head).toEqual({
      kind: 'head',
      method: 'POST',
      httpVersion: '1.1',
      path: '/a/b',
      query: 'x=1?y',
      hasQuery: true,
      host: 'API.Example.com.:8080',
      hostname: 'api.example.com',
      contentLength: 12,
      isChunked: false,
      expectsContinue: true,
      isWebSocket: false,
    })
  })

  it('has no body without framing fields, and an empty query is told from none', () => {
    expect(acceptHead()).toMatchObject({ contentLength: -1, isChunked: false, query: '', hasQuery: false })
    expect(acceptHead({ target: '/?' })).toMatchObject({ path: '/', query: '', hasQuery: true })
    expect(acceptHead({ rawHeaders: [...HOST, 'TRANSFER-encoding', 'Chunked'] }).isChunked).toBe(true)
  })

  it.each([
    ['example.com', 'example.com'],
    ['EXAMPLE.com:80', 'example.com'],
    ['example.com.', 'example.com'],
    ['example.com:', 'example.com'],
    ['a_b.example.com', 'a_b.example.com'],
    ['127.0.0.1:8080', '127.0.0.1'],
    ['[2001:DB8::1]:443', '[2001:db8::1]'],
    ['[::ffff:192.0.2.1]', '[::ffff:192.0.2.1]'],
  ])('with the Host %s is routed by %s', (host, hostname) => {
    expect(acceptHead({ rawHeaders: ['Host', host] })).toMatchObject({ host, hostname })
  })

  it.each([
    '',
    ' ',
    '.',
    '..',
    '.example.com',
    'a..b',
    'example.com..',
    ':80',
    'a:b',
    'a:-1',
    'a:65536',
    'a:1:2',
    'a b',
    'a,b',
    'user@a',
    'a/b',
    'a?b',
    'a#b',
    'a\\b',
    'a%2eb',
    'exämple',
    '[::1',
    '::1',
    '[1]',
    '[::1]x',
    '[::g]',
    '[::1]:x',
    '"a"',
    'a'.repeat(300),
  ])('with the Host %j is refused', (host) => {
    expect(check({ rawHeaders: ['Host', host] })).toBe('bad_request')
  })

  it('needs exactly one Host in HTTP/1.1 and at most one in HTTP/1.0', () => {
    expect(check({ rawHeaders: [] })).toBe('bad_request')
    expect(check({ rawHeaders: [...HOST, 'host', 'example.com'] })).toBe('bad_request')
    expect(check({ rawHeaders: [...HOST, 'HOST', 'evil.example'] })).toBe('bad_request')
    expect(check({ rawHeaders: [...HOST, ...HOST], httpVersion: '1.0' })).toBe('bad_request')
    expect(acceptHead({ rawHeaders: [], httpVersion: '1.0' })).toMatchObject({ host: '', hostname: '' })
  })

  it.each(['CONNECT', 'TRACE'])('of %s is answered 405 with the methods that are forwarded', (method) => {
    const fault = checkRequestHead({ method, target: 'a:443', httpVersion: '1.1', rawHeaders: HOST }, LIMITS)
    expect(fault).toEqual({
      kind: 'fault',
      code: 'method_not_allowed',
      allow: 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS',
    })
  })

  it('over a limit is answered by its own code', () => {
    expect(check({ target: `/${'a'.repeat(8191)}` })).toBe('head')
    expect(check({ target: `/${'a'.repeat(8192)}` })).toBe('uri_too_long')
    const fields = Array.from({ length: 99 }, () => ['X-A', '1']).flat()
    expect(checkFields(...fields)).toBe('head')
    expect(checkFields(...fields, 'X-A', '1')).toBe('headers_too_large')
  })
})

describe('a request target', () => {
  it.each([
    ['http://example.com/a?b', '/a', 'b'],
    ['HTTPS://EXAMPLE.COM/a', '/a', ''],
    ['http://example.com', '/', ''],
    ['http://example.com?b', '/', 'b'],
    ['http://example.com//a', '//a', ''],
    ['http://example.com:80/a', '/a', ''],
    ['https://Example.com:443/a', '/a', ''],
  ])('in absolute form is reduced to its path: %s', (target, path, query) => {
    expect(acceptHead({ target })).toMatchObject({ path, query, hostname: 'example.com' })
  })

  it.each([
    'http://evil.example/a',
    'http://example.com:81/a',
    'http://example.com:443/a',
    'https://example.com:80/a',
    'http://example.com:/a',
    'http://example.com:080/a',
    'http://example.com:80:80/a',
    'http://example.com.evil.org/a',
    'http://user@example.com/a',
    'http:///a',
    'http:/a',
    'ftp://example.com/a',
    'http://example.com\\@evil.example/a',
  ])('in absolute form for another authority than the Host is refused: %s', (target) => {
    expect(check({ target })).toBe('bad_request')
  })

  it.each([
    ['http://a/', 'a:80'],
    ['https://a/', 'a:443'],
    ['http://[::80]/', '[::80]'],
    ['http://[::1]:80/', '[::1]'],
  ])('in absolute form may leave out what Host says of the default port: %s, Host %s', (target, host) => {
    expect(acceptHead({ target, rawHeaders: ['Host', host] }).host).toBe(host)
  })

  it('in absolute form is no match for an address that only ends like a port', () => {
    expect(check({ target: 'http://[::80]/', rawHeaders: ['Host', '[:'] })).toBe('bad_request')
  })

  it('in absolute form gives an HTTP/1.0 request its host', () => {
    const head = acceptHead({ target: 'http://A.example/x', rawHeaders: [], httpVersion: '1.0' })
    expect(head).toMatchObject({ path: '/x', host: 'A.example', hostname: 'a.example' })
    expect(check({ target: 'http://a,b/x', rawHeaders: [], httpVersion: '1.0' })).toBe('bad_request')
  })

  it('of * is good for OPTIONS only', () => {
    expect(acceptHead({ method: 'OPTIONS', target: '*' }).path).toBe('*')
    expect(check({ target: '*' })).toBe('bad_request')
  })

  it.each([
    '',
    'a',
    'example.com:443',
    '%2Fa',
    '\\a',
    '?a',
    '/a b',
    '/a\tb',
    '/a\0',
    '/a\r\nX: y',
    '/a#b',
    '/é',
    '/a\x7f',
    '/a\u0130',
  ])('of %j is refused', (target) => {
    expect(check({ target })).toBe('bad_request')
  })
})

describe('a WebSocket', () => {
  const fields = ['Host', 'a', 'Connection', 'keep-alive, Upgrade', 'Upgrade', 'WebSocket']

  it('is asked for by GET with Upgrade and Connection in HTTP/1.1', () => {
    expect(acceptHead({ rawHeaders: fields }).isWebSocket).toBe(true)
    expect(acceptHead({ rawHeaders: [...fields, 'Content-Length', '0'] }).isWebSocket).toBe(true)
  })

  it('is not asked for by anything less', () => {
    expect(acceptHead({ rawHeaders: fields, method: 'POST' }).isWebSocket).toBe(false)
    expect(acceptHead({ rawHeaders: fields, httpVersion: '1.0' }).isWebSocket).toBe(false)
    expect(acceptHead({ rawHeaders: ['Host', 'a', 'Upgrade', 'websocket'] }).isWebSocket).toBe(false)
    expect(
      acceptHead({ rawHeaders: ['Host', 'a', 'Connection', 'x-upgrade', 'Upgrade', 'websocket'] })
        .isWebSocket,
    ).toBe(false)
    expect(
      acceptHead({ rawHeaders: ['Host', 'a', 'Connection', 'upgrade', 'Upgrade', 'h2c'] }).isWebSocket,
    ).toBe(false)
    expect(acceptHead({ rawHeaders: [...fields, 'Upgrade', 'h2c'] }).isWebSocket).toBe(false)
  })

  it('is refused together with a body', () => {
    expect(check({ rawHeaders: [...fields, 'Content-Length', '1'] })).toBe('bad_request')
    expect(check({ rawHeaders: [...fields, 'Transfer-Encoding', 'chunked'] })).toBe('bad_request')
  })
})

describe('framing', () => {
  it.each([
    [['Content-Length', '5', 'Transfer-Encoding', 'chunked']],
    [['Content-Length', '5', 'Content-Length', '6']],
    [['Content-Length', '5', 'content-length', '5']],
    [['Content-Length', '5, 5']],
    [['Content-Length', '+5']],
    [['Content-Length', '-5']],
    [['Content-Length', '']],
    [['Content-Length', ' 5']],
    [['Content-Length', '0x5']],
    [['Content-Length', '5e0']],
    [['Content-Length', '1'.repeat(16)]],
    [['Transfer-Encoding', 'gzip, chunked']],
    [['Transfer-Encoding', 'chunked, chunked']],
    [['Transfer-Encoding', 'chunked', 'Transfer-Encoding', 'chunked']],
    [['Transfer-Encoding', 'identity']],
    [['Transfer-Encoding', 'xchunked']],
    [['Transfer-Encoding', '']],
    [['Transfer-Encoding', '\x0bchunked']],
    [['Expect', '200-ok']],
    [['Expect', '']],
  ])('by %j is refused', (rawHeaders) => {
    expect(checkFields(...rawHeaders)).toBe('bad_request')
  })

  it('by chunks is refused in HTTP/1.0', () => {
    expect(check({ rawHeaders: [...HOST, 'Transfer-Encoding', 'chunked'], httpVersion: '1.0' })).toBe(
      'bad_request',
    )
  })

  it('by Expect means nothing in HTTP/1.0', () => {
    expect(acceptHead({ rawHeaders: ['Expect', '100-continue'], httpVersion: '1.0' }).expectsContinue).toBe(
      false,
    )
  })
})

describe('a header field', () => {
  it.each(['', 'a b', 'a:', 'a\t', 'Transfer-Encoding ', 'a\0', 'é', '(a)', 'a\u0141'])(
    'named %j is refused',
    (name) => {
      expect(checkFields(name, '1')).toBe('bad_request')
    },
  )

  it.each(['a\0', 'a\rb', 'a\nb', 'a\r\n b', '\x1b[31m', '\x7f', '\u0100'])(
    'with the value %j is refused',
    (value) => {
      expect(checkFields('X-A', value)).toBe('bad_request')
    },
  )

  it.each(['', 'a\tb', 'caf\xc3\xa9', '\x80\xff'])('with the value %j is accepted', (value) => {
    expect(checkFields('X-A', value)).toBe('head')
  })

  it('without a value breaks the list', () => {
    expect(checkFields('X-A')).toBe('bad_request')
  })

  it.each(['get', 'G(T', 'GET ', ''])('cannot be excused by the method %j', (method) => {
    expect(check({ method })).toBe(method === 'get' ? 'head' : 'bad_request')
  })
})
