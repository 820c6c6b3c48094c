import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { ROOT_TOKEN, type RunningGateway, startGateway } from '../support/gateway.ts'
import { type Load, openLoad, type Sample } from '../support/load.ts'

/** The limits hold exactly, for the whole process and over all of its ways in. */

interface CreatedKey {
  readonly kid: string
  readonly token: string
  readonly created_at: string
}

describe.each([1, 2])('with %i data-plane thread(s)', (workers) => {
  let upstream: EchoUpstream
  let gateway: RunningGateway
  let load: Load
  let admin: Load

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    gateway = await startGateway({
      config: {
        gateway: { listen: '127.0.0.1:0', workers },
        upstreams: { echo: { targets: [upstream.url] } },
        keyspaces: [{ ksid: 'ks_exact', name: 'exact', keys_prefix: 'ex_' }],
        routes: [{ name: 'all', keyspace: 'ks_exact', upstream: 'echo' }],
      },
    })
    load = openLoad(gateway.gatewayUrl, 200)
    admin = openLoad(gateway.adminUrl, 50)
  })
  afterAll(async () => {
    await load?.[Symbol.asyncDispose]()
    await admin?.[Symbol.asyncDispose]()
    await gateway?.stop()
    await upstream?.close()
  })

  async function createKey(limit: number, rate = 0, intervalMs = 0): Promise<CreatedKey> {
    const ratelimit = { limit, refill_rate: rate, refill_interval: intervalMs }
    const { status, body } = await gateway.rpc('keys.create', { ksid: 'ks_exact', ratelimit })
    expect(status).toBe(200)
    return body as CreatedKey
  }
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
  const checkRequest = (token: string) => ({
    method: 'POST',
    path: '/v1/keys.check',
    body: JSON.stringify({ ksid: 'ks_exact', token }),
  })
  const adminHeaders = { authorization: `Bearer ${ROOT_TOKEN}`, 'content-type': 'application/json' }

  it('a bucket that never refills admits exactly its limit, over 200 connections and keys.check at once', async () => {
    const limit = 600
    const { token } = await createKey(limit)
    const receivedBefore = upstream.received()
    const [viaGateway, viaCheck] = await Promise.all([
      load.blast(5 * limit, bearer(token)),
      admin.blast(5 * limit, adminHeaders, checkRequest(token)),
    ])
    const admitted = (viaGateway.get(200) ?? 0) + (viaCheck.get(200) ?? 0)
    const denied = (viaGateway.get(429) ?? 0) + (viaCheck.get(429) ?? 0)
    expect({ admitted, denied }).toEqual({ admitted: limit, denied: 9 * limit })
    expect(viaGateway.get(200) ?? 0).toBeGreaterThan(0)
    expect(viaCheck.get(200) ?? 0).toBeGreaterThan(0)
    // A refused request never reaches the upstream.
    expect(upstream.received() - receivedBefore).toBe(viaGateway.get(200))
  }, 60_000)

  it.each([
    ['steady', async (send: () => Promise<void>) => runFor(2_000, () => Promise.all([send(), pause(4)]))],
    [
      'overloaded',
      async (send: () => Promise<void>) => runFor(1_500, () => Promise.all(Array.from({ length: 40 }, send))),
    ],
    [
      'in bursts with pauses',
      async (send: () => Promise<void>) =>
        runFor(2_500, async () => {
          await Promise.all(Array.from({ length: 120 }, send))
          await pause(170)
        }),
    ],
  ])(
    'a refilling bucket, %s, admits between any two instants at most its limit and the refills between',
    async (_name, drive) => {
      const [limit, rate, intervalMs] = [50, 10, 50]
      const key = await createKey(limit, rate, intervalMs)
      const admitted: Sample[] = []
      let refused = 0
      await drive(async () => {
        const sample = await load.send(bearer(key.token))
        if (sample.status === 200) admitted.push(sample)
        else refused++
      })
      expect(admitted.length).toBeGreaterThan(limit)
      expect(
        worstExcess(admitted, { limit, rate, intervalMs, anchorMs: Date.parse(key.created_at) }),
      ).toBeLessThanOrEqual(0)
      if (_name !== 'steady') expect(refused).toBeGreaterThan(0)
    },
    60_000,
  )

  it('a key deleted during load is refused from the RPC answer on', async () => {
    for (let round = 0; round < 20; round++) {
      const { kid, token } = await createKey(1_000_000)
      const samples: Sample[] = []
      let isRunning = true
      const runners = Array.from({ length: 20 }, async () => {
        while (isRunning) samples.push(await load.send(bearer(token)))
      })
      await until(() => samples.length > 0)
      expect((await gateway.rpc('keys.delete', { ksid: 'ks_exact', kid })).status).toBe(200)
      const answeredAt = performance.timeOrigin + performance.now()
      const isLate = (sample: Sample) => sample.sentAt >= answeredAt
      await until(() => samples.filter(isLate).length >= 20)
      isRunning = false
      await Promise.all(runners)
      const late = samples.filter(isLate)
      expect(late.length).toBeGreaterThan(0)
      expect(new Set(late.map((sample) => sample.status))).toEqual(new Set([401]))
      expect(samples.some((sample) => sample.status === 200)).toBe(true)
    }
  }, 60_000)

  it('a limit changed 1,000 times under load never lets through more than was in force, and holds from each answer on', async () => {
    const { kid, token } = await createKey(1)
    let highestSent = 1
    let admitted = 0
    let worst = 0
    let isRunning = true
    const runners = Array.from({ length: 16 }, async () => {
      while (isRunning) {
        const { status } = await load.send(bearer(token))
        if (status === 200) admitted++
        worst = Math.max(worst, admitted - highestSent)
      }
    })
    const change = async (limit: number) => {
      highestSent = Math.max(highestSent, limit)
      const ratelimit = { limit, refill_rate: 0, refill_interval: 0 }
      const { status, body } = await gateway.rpc('keys.update', { ksid: 'ks_exact', kid, ratelimit })
      expect({ status, body }).toMatchObject({ status: 200, body: { ratelimit: { limit } } })
    }
    for (let round = 1; round <= 500; round++) {
      await change(3 * round)
      if (round % 10 === 0) await pause(5)
      await change(1)
      if (round % 50 === 0) {
        // Everything sent from here on, until the limit is raised again, must be refused.
        const probes = await Promise.all(Array.from({ length: 8 }, () => load.send(bearer(token))))
        if (admitted > 1) expect(new Set(probes.map((probe) => probe.status))).toEqual(new Set([429]))
      }
    }
    await change(2_000)
    await until(() => admitted >= 2_000)
    await pause(50)
    isRunning = false
    await Promise.all(runners)
    expect(worst).toBeLessThanOrEqual(0)
    expect(admitted).toBe(2_000)
  }, 60_000)
})

/**
 * Over all windows [from, to]: admissions that surely fell inside, less the limit and the refills
 * that the window can have seen. An admission happened between its sending and its answer.
 */
function worstExcess(
  samples: readonly Sample[],
  {
    limit,
    rate,
    intervalMs,
    anchorMs,
  }: { limit: number; rate: number; intervalMs: number; anchorMs: number },
): number {
  const bySending = samples.toSorted((a, b) => a.sentAt - b.sentAt)
  const refillsUpTo = (at: number) => Math.floor((at - anchorMs) / intervalMs)
  let worst = Number.NEGATIVE_INFINITY
  for (let first = 0; first < bySending.length; first++) {
    const from = bySending[first]?.sentAt ?? 0
    const ends = bySending
      .slice(first)
      .map((sample) => sample.receivedAt)
      .sort((a, b) => a - b)
    for (const [index, to] of ends.entries()) {
      // A millisecond of slack on either side: instants are whole milliseconds in the gateway.
      const refills = refillsUpTo(to + 1) - refillsUpTo(from - 1)
      worst = Math.max(worst, index + 1 - limit - refills * rate)
    }
  }
  return worst
}

async function runFor(ms: number, turn: () => Promise<unknown>): Promise<void> {
  const end = performance.now() + ms
  while (performance.now() < end) await turn()
}

async function until(done: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!done() && performance.now() < deadline) await pause(5)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
