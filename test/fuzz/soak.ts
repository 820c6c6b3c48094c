import { openSoak, type Stretch } from '../support/soak.ts'

/**
 * `npm run soak -- [MINUTES] [REQUESTS_PER_SECOND] [SEED]`: the soak of test/support/soak.ts by the minute.
 * Without a rate, or with 0, it is half of the peak, which is measured first. Fails where a well-behaved
 * client gets another answer than it should, where memory or descriptors grow, or where the last minute is
 * slower than the third. A last minute in which requests past the gateway are slower by as much is the
 * machine's fault; where a hypervisor took more than a fiftieth of either minute, they are not compared.
 */

const PEAK_SECONDS = 5
const MEMORY_GROWTH_MAX = 1.3
const DESCRIPTORS_GROWTH_MAX = 64
const STOLEN_MAX = 0.02

const minutes = Number(process.argv[2] ?? 10)
const wantedRate = Number(process.argv[3] ?? 0)
const seed = Number(process.argv[4] ?? Date.now() % 2 ** 31)
process.exitCode = (await soak()) ? 0 : 1

async function soak(): Promise<boolean> {
  await using running = await openSoak(seed)
  const peak = await running.measurePeak(PEAK_SECONDS)
  const rate = wantedRate > 0 ? wantedRate : Math.round(peak / 2)
  say(`soak: ${minutes} min at ${rate}/s (peak ${peak.toFixed(0)}), seed ${seed}`)
  const results: Stretch[] = []
  for (let minute = 1; minute <= minutes; minute++) {
    const result = await running.run(60, rate)
    results.push(result)
    const { answers, wrong, p99Ms, directP99Ms, cpuUs, stolen, memoryKib, descriptors } = result
    const latency = `p99 ${p99Ms.toFixed(1)} ms (direct: ${directP99Ms.toFixed(1)})`
    const cost = `${cpuUs.toFixed(1)} µs of CPU each, ${(100 * stolen).toFixed(1)} % stolen`
    const size = `${(memoryKib / 1024).toFixed(0)} MiB, ${descriptors} descriptors`
    say(`${minute}: ${answers} answers, ${wrong} wrong, ${latency}, ${cost}, ${size}`)
  }
  const problems = judge(results)
  const errors = await running.stop()
  if (errors !== '') problems.push(`standard error: ${errors.slice(0, 1000)}`)
  say(problems.length === 0 ? 'no finding' : problems.join('\n'))
  return problems.length === 0
}

function judge(results: readonly Stretch[]): string[] {
  const problems: string[] = []
  const wrong = results.reduce((sum, minute) => sum + minute.wrong, 0)
  if (wrong > 0) problems.push(`${wrong} wrong answers to well-behaved clients`)
  const base = results[Math.min(2, results.length - 1)]
  const last = results.at(-1)
  if (base === undefined || last === undefined) return problems
  if (last.memoryKib > base.memoryKib * MEMORY_GROWTH_MAX) problems.push('memory grew')
  if (last.descriptors > base.descriptors + DESCRIPTORS_GROWTH_MAX) problems.push('descriptors grew')
  if (base.stolen > STOLEN_MAX || last.stolen > STOLEN_MAX) {
    say('the machine was taken away in the third or the last minute: they are not compared')
    return problems
  }
  const slowdown = Math.max(1, last.directP99Ms / base.directP99Ms)
  if (results.length > 3 && last.p99Ms > base.p99Ms * slowdown * 1.2 + 1)
    problems.push('the last minute was slower than the third')
  return problems
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
