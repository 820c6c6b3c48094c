import { compareParsers, type FuzzTally } from '../support/http1-differential.ts'
import { fuzzGateway } from '../support/http1-gateway-fuzz.ts'

/**
 * `npm run fuzz -- [MESSAGES] [SEED]`: random streams against our parsers and llhttp, by default a
 * million messages, then a share of them through a whole gateway. Says seed and time; fails at the
 * first finding, with the stream.
 */

const STREAMS_PER_SEED = 10_000
const GATEWAY_SHARE = 1000

const messages = Number(process.argv[2] ?? 1_000_000)
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31)
const startedAt = performance.now()
const tally: FuzzTally = { streams: 0, messages: 0, accepted: 0, refused: 0 }
for (let i = 0; tally.messages < messages; i++) compareParsers(seed + i, STREAMS_PER_SEED, tally)
say(
  `parsers: ${tally.messages} messages in ${tally.streams} streams (${tally.accepted} accepted, ${tally.refused} streams refused)`,
)
const { sent, forwarded } = await fuzzGateway(seed, Math.ceil(messages / GATEWAY_SHARE))
say(`gateway: ${sent} streams sent, ${forwarded} requests forwarded`)
say('no finding')

function say(text: string): void {
  process.stdout.write(`${text}; seed ${seed}, ${((performance.now() - startedAt) / 1000).toFixed(1)} s\n`)
}
