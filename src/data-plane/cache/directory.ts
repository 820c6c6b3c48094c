import { createHash } from 'node:crypto'
import type { PurgeCounters } from '../../ports/purge-counters.ts'
import type { SharedAnswers } from '../../ports/shared-answers.ts'
import { decodeItem, encodeItem } from './entry-codec.ts'
import type { FlightEnd } from './flights.ts'
import type { CacheFromThread, CacheToThread, SharedItem } from './messages.ts'

/*
 * Lives on the control thread: knows which thread has stored what, and who fetches what. Answers
 * stay in the threads; one that another thread lacks is copied to it through here. Where nodes
 * share a store, it is asked next, before anybody may go to the upstream.
 */
export interface CacheDirectory {
  join(member: { post(message: CacheToThread): void }): {
    receive(message: CacheFromThread): void
    leave(): void
  }
}

interface Member {
  post(message: CacheToThread): void
}

interface Asker {
  readonly member: Member
  readonly id: number
  readonly newerThanMs: number
}

/** A fetch that one thread was allowed, and those who wait for it. */
interface Fetch {
  holder: Member
  readonly waiting: Asker[]
}

const KEYS_MAX = 100_000
const FETCHES_MAX = 16_384
const GIVE_MS_MAX = 1_000

export function createCacheDirectory(options: {
  readonly counters: PurgeCounters
  readonly nowMs: () => number
  readonly shared: SharedAnswers | undefined
}): CacheDirectory {
  const { counters, nowMs, shared } = options
  const owners = new Map<string, Member>()
  const fetches = new Map<string, Fetch>()
  const wanted = new Map<number, { readonly member: Member; readonly done: (item?: SharedItem) => void }>()
  let lastWant = 0

  function receive(member: Member, message: CacheFromThread): void {
    switch (message.kind) {
      case 'claim':
        claim({ member, ...message }, message.key)
        break
      case 'look':
        lookOnly({ member, ...message }, message.key)
        break
      case 'settle':
        settle(member, message.key, message.end, message.stored)
        break
      case 'give':
        wanted.get(message.id)?.done(message.item)
        break
      case 'outdate':
        shared?.spread(message.marks)
    }
  }

  function claim(asker: Asker, key: string): void {
    const running = fetches.get(key)
    if (running !== undefined) {
      running.waiting.push(asker)
      return
    }
    if (fetches.size >= FETCHES_MAX) {
      grant(asker, key)
      return
    }
    fetches.set(key, { holder: asker.member, waiting: [] })
    void look(asker, key).then((item) => {
      if (item === undefined) {
        grant(asker, key)
        return
      }
      give(asker, key, item)
      finish(asker.member, key, item)
    })
  }

  function lookOnly(asker: Asker, key: string): void {
    // Somebody has looked already, and found nothing.
    const looking = fetches.has(key) ? Promise.resolve(undefined) : look(asker, key)
    void looking.then((item) => {
      if (item === undefined) asker.member.post({ kind: 'missing', id: asker.id })
      else give(asker, key, item)
    })
  }

  function give({ member, id }: Asker, key: string, item: SharedItem): void {
    member.post({ kind: 'found', id, item, isAwaited: false })
    own(key, member)
  }

  function grant({ member, id }: Asker, key: string): void {
    member.post({ kind: 'granted', id, key })
  }

  /** In another thread, or else with the other nodes. */
  async function look({ member, newerThanMs }: Asker, key: string): Promise<SharedItem | undefined> {
    const owner = owners.get(key)
    if (owner !== undefined && owner !== member) {
      const item = await want(owner, key, newerThanMs)
      if (item !== undefined) return item
      if (owners.get(key) === owner) owners.delete(key)
    }
    return shared === undefined ? undefined : await read(shared, key, newerThanMs)
  }

  function want(owner: Member, key: string, newerThanMs: number): Promise<SharedItem | undefined> {
    const id = ++lastWant
    return new Promise((resolve) => {
      const done = (item?: SharedItem) => {
        clearTimeout(timer)
        wanted.delete(id)
        resolve(item)
      }
      const timer = setTimeout(done, GIVE_MS_MAX)
      wanted.set(id, { member: owner, done })
      owner.post({ kind: 'want', id, key, newerThanMs })
    })
  }

  async function read(
    from: SharedAnswers,
    key: string,
    newerThanMs: number,
  ): Promise<SharedItem | undefined> {
    // Before anything is asked: a purge from here on makes the answer unfit.
    const since = counters.sequence()
    const found = await from.get(toName(key))
    const decoded = found && decodeItem(found.bytes, { nowMs: nowMs(), elapsedMs: found.elapsedMs, since })
    if (decoded === undefined) return undefined
    const { item, era } = decoded
    if (item.kind === 'vary') return item
    if (item.bornMs <= newerThanMs) return undefined
    return from.isUntouched(item.marks, item.farSince, era) ? item : undefined
  }

  function settle(member: Member, key: string, end: FlightEnd, stored: readonly string[]): void {
    for (const each of stored) own(each, member)
    if (end === 'stored' && stored.length > 0) void hand(member, key, stored)
    else finish(member, key, undefined, end === 'abandoned')
  }

  /** Copies what was stored to those who wait, and to the other nodes. */
  async function hand(member: Member, key: string, stored: readonly string[]): Promise<void> {
    const waits = (fetches.get(key)?.waiting.length ?? 0) > 0
    for (const each of stored) {
      if (each !== key && shared === undefined) continue
      const item =
        waits || shared !== undefined ? await want(member, each, Number.NEGATIVE_INFINITY) : undefined
      if (item !== undefined) write(each, item)
      if (each === key) finish(member, key, item)
    }
    finish(member, key, undefined)
  }

  function write(key: string, item: SharedItem): void {
    if (shared === undefined || shared.era === '') return
    if (item.kind === 'vary') {
      shared.put(toName(key), encodeItem(item, shared.era, nowMs()), VARY_KEEP_MS)
      return
    }
    // In one turn with the look at the era: a new one outdates all that was fetched before it.
    if (!counters.isUntouched(item.marks, item.since)) return
    const keepMs = item.lifetimeMs + Math.max(item.staleWhileRevalidateMs, item.staleIfErrorMs)
    shared.put(toName(key), encodeItem(item, shared.era, nowMs()), keepMs - (nowMs() - item.bornMs))
  }

  /** Ends a fetch: those who wait get the item, or leave to fetch: the next one, or all of them. */
  function finish(member: Member, key: string, item: SharedItem | undefined, passesOn = false): void {
    const fetch = fetches.get(key)
    if (fetch === undefined || fetch.holder !== member) return
    const next = passesOn ? fetch.waiting.shift() : undefined
    if (next !== undefined) {
      fetch.holder = next.member
      grant(next, key)
      return
    }
    fetches.delete(key)
    for (const asker of fetch.waiting) {
      if (item === undefined) grant(asker, key)
      else asker.member.post({ kind: 'found', id: asker.id, item, isAwaited: true })
    }
  }

  /** What was noted longest ago is forgotten first: then it is fetched once more. */
  function own(key: string, member: Member): void {
    owners.delete(key)
    owners.set(key, member)
    if (owners.size <= KEYS_MAX) return
    for (const oldest of owners.keys()) {
      owners.delete(oldest)
      return
    }
  }

  return {
    join(member) {
      return {
        receive: (message) => receive(member, message),
        leave() {
          for (const [key, owner] of owners) if (owner === member) owners.delete(key)
          for (const want of [...wanted.values()]) if (want.member === member) want.done()
          for (const [key, fetch] of [...fetches]) {
            const left = fetch.waiting.filter((asker) => asker.member !== member)
            fetch.waiting.splice(0, fetch.waiting.length, ...left)
            finish(member, key, undefined, true)
          }
        },
      }
    },
  }
}

const VARY_KEEP_MS = 3_600_000

/** Keys may be long and hold anything. */
function toName(key: string): string {
  return createHash('sha256').update(key, 'latin1').digest('base64url')
}
