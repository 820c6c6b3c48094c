import { once } from 'node:events'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connect, createServer, type PeerCertificate, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Authority, createAuthority, type IssuedFiles, MAY_ISSUE } from '../support/certificates.ts'
import { startEchoUpstream } from '../support/echo-upstream.ts'
import { ask, connectHttp2 } from '../support/http2-client.ts'
import { type InProcessGateway, startInProcess, until } from '../support/in-process.ts'

/** Certificates of the gateway listener: by name, resumed on any thread, and changed while it runs. */

const folder = mkdtempSync(path.join(tmpdir(), 'dripgate-tls-'))
let authority: Authority
let first: IssuedFiles
let second: IssuedFiles
let wild: IssuedFiles

beforeAll(() => {
  if (!MAY_ISSUE) return
  authority = createAuthority(folder)
  first = authority.issue('first', ['DNS:first.test', 'IP:127.0.0.1'])
  second = authority.issue('second', ['DNS:second.test', 'DNS:Third.test'])
  wild = authority.issue('wild', ['DNS:*.wild.test'])
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const pick = ({ cert, key }: IssuedFiles) => ({ cert, key })

function configOf(target: string, tls: object, gateway: object = {}) {
  return {
    gateway: { listen: '127.0.0.1:0', workers: 2, tls, ...gateway },
    upstreams: { echo: { targets: [target] } },
    routes: [{ name: 'only', upstream: 'echo' }],
  }
}

function portOf({ gateway }: InProcessGateway): number {
  return Number(new URL(gateway.gatewayUrl).port)
}

/** Which certificate a client gets that asks for this name; `''` asks for none. */
async function showCertificate(running: InProcessGateway, servername: string): Promise<PeerCertificate> {
  const socket = await handshake(portOf(running), { servername })
  const certificate = socket.getPeerCertificate()
  socket.destroy()
  return certificate
}

function handshake(port: number, options: object): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      port,
      host: '127.0.0.1',
      ca: authority.pem,
      rejectUnauthorized: false,
      ...options,
    })
    socket.once('secureConnect', () => resolve(socket))
    socket.once('error', reject)
  })
}

async function readMetric(running: InProcessGateway, name: string): Promise<string[]> {
  const text = await (await fetch(`${running.gateway.adminUrl}/metrics`)).text()
  return text.split('\n').filter((line) => line.startsWith(name))
}

function get(running: InProcessGateway, servername = 'first.test'): Promise<number> {
  const options = { port: portOf(running), host: '127.0.0.1', servername, ca: authority.pem, agent: false }
  return new Promise((resolve, reject) => {
    const client = request(options, (answer) => {
      answer.resume()
      answer.on('end', () => resolve(answer.statusCode ?? 0))
    })
    client.on('error', reject)
    client.end()
  })
}

describe.skipIf(!MAY_ISSUE)('TLS towards clients', () => {
  it('shows the certificate for the name that the client asks for, else the first', async () => {
    await using upstream = await startEchoUpstream()
    const tls = { certificates: [first, second, wild].map(pick) }
    await using running = await startInProcess(configOf(upstream.url, tls))
    const cases: [string, IssuedFiles][] = [
      ['first.test', first],
      ['second.test', second],
      ['SECOND.test', second],
      ['third.test', second],
      ['a.wild.test', wild],
      ['wild.test', first],
      ['a.b.wild.test', first],
      ['other.test', first],
      ['', first],
    ]
    for (const [name, files] of cases) {
      expect([name, (await showCertificate(running, name)).fingerprint256]).toEqual([name, files.fingerprint])
    }
    expect(await get(running, 'second.test')).toBe(200)
  })

  it.each(['raw', 'node'])('serves HTTP/1.1 with the %s engine', async (engine) => {
    await using upstream = await startEchoUpstream()
    await using running = await startInProcess(configOf(upstream.url, pick(first), { engine }))
    expect(await get(running)).toBe(200)
  })

  it('speaks no old version and no weak cipher, and nothing below min_version', async () => {
    await using upstream = await startEchoUpstream()
    const config = configOf(upstream.url, { ...pick(first), min_version: 'TLSv1.3' })
    await using strict = await startInProcess(config)
    await using usual = await startInProcess(configOf(upstream.url, pick(first)))
    const only = (version: string) => ({
      minVersion: version,
      maxVersion: version,
      ciphers: 'ALL:@SECLEVEL=0',
    })
    await expect(handshake(portOf(strict), only('TLSv1.2'))).rejects.toThrow()
    await expect(handshake(portOf(usual), only('TLSv1.1'))).rejects.toThrow()
    const weak = { ...only('TLSv1.2'), ciphers: 'ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0' }
    await expect(handshake(portOf(usual), weak)).rejects.toThrow(/handshake failure/)
    // The client does have it: a server that takes everything agrees.
    const lax = createServer({
      cert: readFileSync(first.cert),
      key: readFileSync(first.key),
      ciphers: 'ALL:@SECLEVEL=0',
    }).listen(0, '127.0.0.1')
    await once(lax, 'listening')
    const agreed = await handshake((lax.address() as AddressInfo).port, weak)
    expect(agreed.getCipher().name).toBe('ECDHE-ECDSA-AES128-SHA')
    agreed.destroy()
    lax.close()
    const socket = await handshake(portOf(usual), only('TLSv1.2'))
    expect(socket.getCipher().standardName).toMatch(/^TLS_ECDHE_ECDSA_WITH_(AES_.*GCM|CHACHA20)/)
    socket.destroy()
  })

  it('resumes a session on every thread', async () => {
    await using upstream = await startEchoUpstream()
    await using running = await startInProcess(configOf(upstream.url, pick(first)))
    const options = { servername: 'first.test', maxVersion: 'TLSv1.2' }
    const socket = await handshake(portOf(running), options)
    const session = socket.getSession()
    socket.destroy()
    // Connections go to either of the two threads.
    for (let n = 0; n < 20; n++) {
      const again = await handshake(portOf(running), { ...options, session })
      expect(again.isSessionReused()).toBe(true)
      again.destroy()
    }
  })

  it('asks for certificates of clients where an authority for them is named', async () => {
    await using upstream = await startEchoUpstream()
    const tls = { ...pick(first), client_ca: authority.file }
    await using running = await startInProcess(configOf(upstream.url, tls))
    const strangers = createAuthority(path.join(folder, 'strangers')).issue('client', ['DNS:client'])
    const answerTo = async (options: object) => {
      const socket = await handshake(portOf(running), options)
      return await new Promise<string>((resolve) => {
        let text = ''
        socket.on('data', (chunk) => {
          text += chunk
        })
        socket.on('error', () => {})
        socket.on('close', () => resolve(text.slice(0, 12)))
        socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      })
    }
    const load = ({ cert, key }: IssuedFiles) => ({ cert: readText(cert), key: readText(key) })
    expect(await answerTo(load(second))).toBe('HTTP/1.1 200')
    expect(await answerTo({})).toBe('')
    expect(await answerTo(load(strangers))).toBe('')
  })
})

describe.skipIf(!MAY_ISSUE)('changed certificate files', () => {
  /** As Kubernetes mounts a secret: files are links through `..data`, which is swapped as one. */
  function mountSecret(name: string) {
    const mount = path.join(folder, name)
    mkdirSync(mount)
    let version = 0
    const swap = (files: { cert: string; key: string }) => {
      const data = `..v${++version}`
      mkdirSync(path.join(mount, data))
      copyFileSync(files.cert, path.join(mount, data, 'tls.crt'))
      copyFileSync(files.key, path.join(mount, data, 'tls.key'))
      symlinkSync(data, path.join(mount, '..tmp'))
      renameSync(path.join(mount, '..tmp'), path.join(mount, '..data'))
    }
    symlinkSync('..data/tls.crt', path.join(mount, 'tls.crt'))
    symlinkSync('..data/tls.key', path.join(mount, 'tls.key'))
    return { cert: path.join(mount, 'tls.crt'), key: path.join(mount, 'tls.key'), swap }
  }

  const isShown = async (running: InProcessGateway, files: IssuedFiles) => {
    for (let n = 0; n < 6; n++) {
      if ((await showCertificate(running, '')).fingerprint256 !== files.fingerprint) return false
    }
    return true
  }

  it('are served by every thread without a failed request or a closed connection', async () => {
    await using upstream = await startEchoUpstream()
    const { cert, key, swap } = mountSecret('swapped')
    swap(first)
    await using running = await startInProcess(
      configOf(upstream.url, { cert, key, reload_interval: '50ms' }, { workers: 1 }),
    )
    const lasting = await connectHttp2(portOf(running))
    const other = authority.issue('first-again', ['DNS:first.test', 'IP:127.0.0.1'])
    const load = { isOver: false, answered: 0 }
    const loading = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (!load.isOver) {
          expect(await get(running)).toBe(200)
          load.answered++
        }
      }),
    )
    for (const files of [other, first, other]) {
      swap(files)
      await until(() => isShown(running, files))
      expect((await ask(lasting, '/')).status).toBe(200)
    }
    load.isOver = true
    await loading
    expect(lasting.destroyed).toBe(false)
    lasting.destroy()
    expect(load.answered).toBeGreaterThan(20)

    // A thread that starts later has them too.
    await running.gateway.threads.workers()[0]?.terminate()
    await until(() => running.gateway.threads.count() === 0)
    await until(() => running.gateway.threads.count() === 1)
    expect(await isShown(running, other)).toBe(true)
  })

  it('that are unfit are told once, and the old ones stay', async () => {
    await using upstream = await startEchoUpstream()
    const { cert, key, swap } = mountSecret('unfit')
    swap(first)
    await using running = await startInProcess(configOf(upstream.url, { cert, key, reload_interval: '50ms' }))
    const expiry = `dripgate_tls_certificate_expiry_timestamp_seconds{certificate="1"}`
    const before = await readMetric(running, expiry)
    expect(Number(before[0]?.split(' ')[1])).toBeGreaterThan(Date.now() / 1000)

    swap({ cert: first.cert, key: second.key })
    const isGood = () => readMetric(running, 'dripgate_tls_certificates_last_reload_successful')
    await until(async () => (await isGood())[0]?.endsWith(' 0') === true)
    await new Promise((resolve) => setTimeout(resolve, 300))
    const errors = running.logger.lines.filter(({ level }) => level === 'error')
    expect(errors).toHaveLength(1)
    expect(JSON.stringify(errors[0])).toContain('does not belong to the certificate')
    expect(await isShown(running, first)).toBe(true)
    expect(await readMetric(running, expiry)).toEqual(before)

    const text = path.join(folder, 'text')
    writeFileSync(text, 'no PEM')
    swap({ cert: text, key: text })
    await until(() => running.logger.lines.filter(({ level }) => level === 'error').length === 2)
    swap(second)
    await until(() => isShown(running, second))
    expect((await isGood())[0]).toMatch(/ 1$/)
  })

  it('follow a reload of the configuration, which may name others', async () => {
    await using upstream = await startEchoUpstream()
    const { cert, key, swap } = mountSecret('reloaded')
    swap(first)
    const tls = { cert, key, reload_interval: 0 }
    await using running = await startInProcess(configOf(upstream.url, tls))
    swap(second)
    expect(await running.reload(configOf(upstream.url, tls))).toMatchObject({ kind: 'done' })
    await until(() => isShown(running, second))
    const more = { certificates: [wild, first].map(pick), reload_interval: 0 }
    expect(await running.reload(configOf(upstream.url, more))).toMatchObject({ kind: 'done' })
    await until(() => isShown(running, wild))
    expect((await showCertificate(running, 'first.test')).fingerprint256).toBe(first.fingerprint)
    expect(await readMetric(running, 'dripgate_tls_certificate_expiry')).toHaveLength(2)
  })
})

function readText(file: string): string {
  return readFileSync(file, 'utf8')
}
