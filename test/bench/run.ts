import { benchCache } from './cache.ts'
import { benchProxy } from './proxy.ts'
import { benchRedis } from './redis.ts'
import { benchStore } from './store.ts'

/** `npm run bench -- NAME [ARGS]`: figures of this machine, to be compared within one run. */

const [name, ...args] = process.argv.slice(2)
const benches: Record<string, () => Promise<void>> = {
  cache: () => benchCache(args[0] === undefined ? undefined : Number(args[0])),
  proxy: () => benchProxy(args),
  redis: () => benchRedis(),
  store: () => benchStore(args[0] === undefined ? undefined : Number(args[0])),
}
const bench = name === undefined ? undefined : benches[name]
if (bench === undefined) {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(benches).join(' | ')}\n`)
  process.exitCode = 2
} else {
  await bench()
}
