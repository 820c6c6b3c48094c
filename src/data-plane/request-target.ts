import { startsWithIgnoreCase } from './raw-headers.ts'

/** A request target, taken apart. */
export interface Target {
  readonly path: string
  readonly query: string
  readonly hasQuery: boolean
  /** Of an absolute-form target; else `''`. */
  readonly authority: string
  /** That of an absolute-form target's scheme. */
  readonly defaultPort: '' | '80' | '443'
}

/** `undefined` where the target is none of the accepted forms, or holds a character that no target may. */
export function parseTarget(target: string, method: string): Target | undefined {
  if (target === '*') {
    return method === 'OPTIONS'
      ? { path: '*', query: '', hasQuery: false, authority: '', defaultPort: '' }
      : undefined
  }
  if (!hasTargetCharacters(target)) return undefined
  if (target.charCodeAt(0) === 0x2f) return splitTarget(target, 0, '', '')
  const start = findAuthority(target)
  if (start < 0) return undefined
  const port = start === 'http://'.length ? '80' : '443'
  let end = start
  while (end < target.length && target.charAt(end) !== '/' && target.charAt(end) !== '?') end++
  return end === start ? undefined : splitTarget(target, end, target.slice(start, end), port)
}

function splitTarget(
  target: string,
  start: number,
  authority: string,
  defaultPort: Target['defaultPort'],
): Target {
  const mark = target.indexOf('?', start)
  const path = target.slice(start, mark < 0 ? target.length : mark)
  return {
    path: path === '' ? '/' : path,
    query: mark < 0 ? '' : target.slice(mark + 1),
    hasQuery: mark >= 0,
    authority,
    defaultPort,
  }
}

/** Where the authority of an absolute-form target starts; -1 where it is none. */
function findAuthority(target: string): number {
  if (startsWithIgnoreCase(target, 'http://')) return 7
  return startsWithIgnoreCase(target, 'https://') ? 8 : -1
}

/** Visible ASCII only, and no `#`: a fragment is never sent. */
function hasTargetCharacters(target: string): boolean {
  for (let i = 0; i < target.length; i++) {
    const code = target.charCodeAt(i)
    if (code <= 0x20 || code >= 0x7f || code === 0x23) return false
  }
  return true
}
