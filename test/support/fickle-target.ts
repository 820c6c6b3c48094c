import { startRawUpstream, type Upstream } from './upstreams.ts'

/** How a target treats the next requests. */
export type Mood = 'fine' | 'reset' | 'hang' | 'garbage' | 'half-a-head' | 'informs' | number

export interface FickleTarget extends Upstream {
  mood: Mood
  /** Values of `X-Id` of all requests whose head arrived, in order. */
  readonly ids: string[]
}

/** Answers with its name, unless its mood is another; a number is a status. */
export async function startFickleTarget(name: string, mood: Mood = 'fine'): Promise<FickleTarget> {
  const ids: string[] = []
  const upstream = await startRawUpstream((connection) => {
    connection.onHead((head) => {
      ids.push(/^x-id: (.*)$/im.exec(head)?.[1] ?? '')
      const { socket } = connection
      switch (target.mood) {
        case 'hang':
          return
        case 'reset':
          return void socket.resetAndDestroy()
        case 'garbage':
          return connection.write('\u0000\u0001 this is no answer\r\n\r\n')
        case 'half-a-head':
          connection.write('HTTP/1.1 200 OK\r\nContent-Le')
          return void socket.end()
        case 'informs':
          connection.write('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n')
          return void setTimeout(() => socket.resetAndDestroy(), 50)
        default: {
          const status = target.mood === 'fine' ? '200 OK' : `${target.mood} Because`
          connection.write(`HTTP/1.1 ${status}\r\nContent-Length: ${name.length}\r\n\r\n${name}`)
        }
      }
    })
  })
  const target: FickleTarget = Object.assign(upstream, { mood, ids })
  return target
}
