import type { Redis } from 'ioredis'
import { openSubscriber, type RedisSettings } from './connection.ts'
import type { Layout } from './layout.ts'

/**
 * What threads on all nodes must forget, as a line of the channel: "1 token HASH KID" (the key is
 * another one now), "1 gone HASH KID" (there is no such key any more), "1 keyspace KSID", "1 records" (what is known of all
 * keys, but not their buckets). Whatever else comes (of a later version, say) makes a thread forget everything.
 * "1 beat" tells that the channel works.
 */
export type Change =
  | { readonly kind: 'token' | 'gone'; readonly tokenHash: string; readonly kid: string }
  | { readonly kind: 'keyspace'; readonly ksid: string }
  | { readonly kind: 'records' | 'all' }

export const BEAT_EVERY_MS = 1_000
/** Without a beat for this long the channel is taken for broken. */
const SILENCE_MS_MAX = 3_500
const RETRY_MS = 200
export const BEAT = '1 beat'

export function encodeChange(change: Change): string {
  switch (change.kind) {
    case 'token':
    case 'gone':
      return `1 ${change.kind} ${change.tokenHash} ${change.kid}`
    case 'keyspace':
      return `1 keyspace ${change.ksid}`
    case 'records':
    case 'all':
      return `1 ${change.kind}`
  }
}

function decodeChange(line: string): Change {
  const [version, kind, first, second] = line.split(' ')
  if (
    version === '1' &&
    (kind === 'token' || kind === 'gone') &&
    first !== undefined &&
    second !== undefined
  ) {
    return { kind, tokenHash: first, kid: second }
  }
  if (version === '1' && kind === 'keyspace' && first !== undefined) return { kind, ksid: first }
  return { kind: version === '1' && kind === 'records' ? 'records' : 'all' }
}

/**
 * Listens to the channel on a connection of its own, for ever: in a cluster every node passes on
 * what any of them is told, so one after the other is tried. `onHearing(false)` comes whenever
 * something may have been missed, `onHearing(true)` once nothing is missed from there on.
 */
export function listenForChanges(options: {
  readonly settings: RedisSettings
  readonly layout: Layout
  readonly name: string
  readonly onChange: (change: Change) => void
  readonly onHearing: (isHearing: boolean) => void
}): { close(): void } {
  const { settings, layout, name, onChange, onHearing } = options
  let client: Redis | undefined
  let attempt = 0
  let isClosed = false
  let isHearing = false
  let heardAt = performance.now()
  let retryTimer: NodeJS.Timeout | undefined

  function setHearing(next: boolean): void {
    if (isHearing === next) return
    isHearing = next
    onHearing(next)
  }

  function connect(): void {
    const mine = openSubscriber(settings, `${name}-changes`, attempt++)
    client = mine
    heardAt = performance.now()
    mine.on('error', () => {})
    mine.on('message', (_channel: string, line: string) => {
      heardAt = performance.now()
      if (line !== BEAT) onChange(decodeChange(line))
    })
    mine.on('ready', () => {
      mine.subscribe(layout.channel).then(
        () => mine === client && setHearing(true),
        () => mine.disconnect(),
      )
    })
    mine.on('end', () => {
      if (mine !== client) return
      setHearing(false)
      if (!isClosed) retryTimer = setTimeout(connect, RETRY_MS)
    })
  }

  const watch = setInterval(() => {
    if (performance.now() - heardAt < SILENCE_MS_MAX) return
    heardAt = performance.now()
    setHearing(false)
    client?.disconnect()
  }, BEAT_EVERY_MS)
  watch.unref()
  connect()
  return {
    close() {
      isClosed = true
      clearInterval(watch)
      clearTimeout(retryTimer)
      client?.disconnect()
    },
  }
}
