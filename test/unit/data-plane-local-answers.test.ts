import { describe, expect, it } from 'vitest'
import { asksProblem, buildLocalAnswer } from '../../src/data-plane/local-answers.ts'
import { listFields } from '../../src/data-plane/message-fields.ts'
import { GATEWAY_ERRORS, type GatewayErrorCode } from '../../src/domain/errors.ts'
import { valuesOf } from '../support/routes.ts'

const CODES = Object.keys(GATEWAY_ERRORS) as GatewayErrorCode[]
const PROBLEM = ['Accept', 'application/problem+json']

function answer(code: GatewayErrorCode, rawHeaders: readonly string[] = [], method = 'GET') {
  const built = buildLocalAnswer({ code, requestId: 'req-1', method, asksProblem: asksProblem(rawHeaders) })
  return { ...built, rawHeaders: listFields(built) }
}

describe('a local answer', () => {
  it.each(CODES)('for %s has the status, the text and the request id, as JSON', (code) => {
    const { status, rawHeaders, body } = answer(code)
    expect(status).toBe(GATEWAY_ERRORS[code].status)
    expect(JSON.parse(body)).toEqual({
      error: { code, message: GATEWAY_ERRORS[code].message, request_id: 'req-1' },
    })
    expect(valuesOf(rawHeaders, 'content-type')).toEqual(['application/json'])
    expect(valuesOf(rawHeaders, 'content-length')).toEqual([String(Buffer.byteLength(body))])
    expect(valuesOf(rawHeaders, 'cache-control')).toEqual(['no-store'])
    expect(valuesOf(rawHeaders, 'x-request-id')).toEqual(['req-1'])
    expect(valuesOf(rawHeaders, 'via')).toEqual(['1.1 dripgate'])
  })

  it.each(CODES)('for %s is a problem of RFC 9457 where the client asks for one', (code) => {
    const { status, rawHeaders, body } = answer(code, PROBLEM)
    expect(valuesOf(rawHeaders, 'content-type')).toEqual(['application/problem+json'])
    expect(valuesOf(rawHeaders, 'content-length')).toEqual([String(Buffer.byteLength(body))])
    expect(JSON.parse(body)).toMatchObject({
      title: expect.stringMatching(/^[A-Z]/),
      status,
      detail: GATEWAY_ERRORS[code].message,
      code,
      request_id: 'req-1',
    })
  })

  it('for an empty bucket names the type and the policy of the draft', () => {
    expect(JSON.parse(answer('rate_limited', PROBLEM).body)).toMatchObject({
      type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
      'violated-policies': ['burst'],
    })
    expect(JSON.parse(answer('not_found', PROBLEM).body).type).toBe('about:blank')
  })

  it.each([
    ['text/html, APPLICATION/Problem+JSON;q=0.5', true],
    ['application/problem+json ; charset=utf-8', true],
    ['application/problem+json;q=0', false],
    ['application/problem+json;q=0.000', false],
    ['application/json, application/problem+json;q=0.5', false],
    ['application/problem+json;Q=0.5, application/json', false],
    ['application/problem+json;q=0.8, application/json;q=0.8', true],
    ['application/problem+json;q=0.8, application/json;q=0.799', true],
    ['application/problem+json;v=1;q=0.2, application/*;q=0.3', false],
    ['application/problem+json;q=0.5, */*', false],
    ['application/problem+json, */*;q=0.1', true],
    ['application/problem+json;q=0.5, application/json;q=0, */*', true],
    ['application/problem+json;q=1e3', false],
    ['application/problem+json;q=2', false],
    ['application/problem+json;q=-1', false],
    ['application/problem+json;q=', false],
    ['application/problem+json;q=0.0001', false],
    ['application/problem+xml', false],
    ['application/json', false],
    ['*/*', false],
    ['', false],
    [',;,', false],
  ])('to Accept: %s is a problem: %s', (accept, isProblem) => {
    const { rawHeaders } = answer('not_found', ['accept', accept])
    expect(valuesOf(rawHeaders, 'content-type')).toEqual([
      isProblem ? 'application/problem+json' : 'application/json',
    ])
  })

  it.each([
    ['missing_token', ['Bearer']],
    ['invalid_token', ['Bearer error="invalid_token"']],
    ['expired_token', ['Bearer error="invalid_token"']],
    ['rate_limited', []],
    ['not_found', []],
  ] as const)('for %s challenges with %j', (code, challenge) => {
    expect(valuesOf(answer(code).rawHeaders, 'www-authenticate')).toEqual(challenge)
  })

  it('to HEAD has no body, but the length that GET would have got', () => {
    const head = answer('not_found', [], 'HEAD')
    expect(head.body).toBe('')
    expect(head.rawHeaders).toEqual(answer('not_found').rawHeaders)
  })

  it('carries what its case calls for', () => {
    const { fresh } = buildLocalAnswer({
      code: 'rate_limited',
      requestId: 'r',
      method: 'GET',
      asksProblem: false,
      allow: 'GET, HEAD',
      retryAfter: '3',
      fields: ['RateLimit', '"burst";r=0'],
    })
    expect(fresh.slice(-6)).toEqual(['Allow', 'GET, HEAD', 'Retry-After', '3', 'RateLimit', '"burst";r=0'])
  })

  it('ends the connection where what follows on it is in doubt', () => {
    const closing = CODES.filter((code) => answer(code).mustClose)
    expect(closing).toEqual([
      'bad_request',
      'request_timeout',
      'body_too_large',
      'uri_too_long',
      'headers_too_large',
    ])
  })
})
