import type { Logger } from '../../ports/runtime.ts'
import { Confirmations } from '../confirmations.ts'
import { BEAT, BEAT_EVERY_MS, type Change, encodeChange } from './changes.ts'
import type { Connection } from './connection.ts'
import type { Layout } from './layout.ts'
import type { FromRedisStore, ToRedisStore } from './messages.ts'

const THREAD_TIMEOUT_MS = 1_000
const PUBLISH_TIMEOUT_MS = 900
/** In a row, after which the connection is given up. */
const BEATS_LOST_MAX = 3

interface Member {
  post(message: FromRedisStore): void
}

/** Tells this node's threads, and waits for them; and all other nodes, over the channel. */
export interface Announcer {
  /** `false`: a thread did not confirm in time, or the channel does not have it. */
  announce(change: Change): Promise<boolean>
  join(member: Member): { receive(message: ToRedisStore): void; leave(): void }
  close(): void
}

export function createAnnouncer(deps: {
  readonly connection: Connection
  readonly layout: Layout
  readonly logger: Logger
  /** The server has not answered for some seconds: the connections to it are to be given up. */
  readonly onLost: () => void
  /** Whether the channel could be written to, once a second. */
  readonly onBeat: (isSent: boolean) => void
  /** Of the control thread itself. */
  readonly apply: (change: Change) => void
}): Announcer {
  const { connection, layout, logger, onBeat, onLost, apply } = deps
  let beatsLost = 0
  const members = new Confirmations<Member>()

  async function tellThreads(change: Change): Promise<boolean> {
    apply(change)
    const tell = (member: Member, id: number) => member.post({ kind: 'changed', id, change })
    const isConfirmed = await members.ask(tell, THREAD_TIMEOUT_MS)
    if (!isConfirmed) logger.error('a thread did not confirm a change in time', { change: change.kind })
    return isConfirmed
  }

  /** What is lost here costs other nodes their TTL at most. */
  async function publish(line: string): Promise<void> {
    await connection.call(PUBLISH_TIMEOUT_MS, 'PUBLISH', [layout.channel, line])
  }

  async function beat(): Promise<void> {
    const isSent = await publish(BEAT).then(
      () => true,
      () => false,
    )
    beatsLost = isSent ? 0 : beatsLost + 1
    // Nothing else would notice that a server hangs, or that a network swallows everything.
    if (beatsLost > 0 && beatsLost % BEATS_LOST_MAX === 0) onLost()
    onBeat(isSent)
  }

  const timer = setInterval(() => void beat(), BEAT_EVERY_MS)
  timer.unref()

  return {
    async announce(change) {
      const [isConfirmed, isPublished] = await Promise.all([
        tellThreads(change),
        publish(encodeChange(change)).then(
          () => true,
          (error: unknown) => {
            logger.error('a change could not be told to other nodes; they learn of it within their TTL', {
              error,
            })
            return false
          },
        ),
      ])
      return isConfirmed && isPublished
    },
    join(member) {
      const { confirm, leave } = members.join(member)
      return { receive: (message) => confirm(message.id), leave }
    },
    close: () => clearInterval(timer),
  }
}
