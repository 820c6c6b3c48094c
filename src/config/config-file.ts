import { createHash } from 'node:crypto'
import { type FSWatcher, readFileSync, realpathSync, statSync, watch } from 'node:fs'
import path from 'node:path'
import { type LoadResult, loadConfig } from './load.ts'

/** The configuration file of a running process, with the secrets and certificates that it names. */
export interface ConfigFile {
  readonly file: string
  read(): LoadResult
  /**
   * Calls `onChange` when any file of the last `read` holds something else than it did then, once
   * it has held that for a moment. Returns what ends it.
   */
  watch(onChange: () => void): () => void
}

/** A file that is being written should not be read half. */
const SETTLE_MS = 100
/** For file systems and mounts that report no changes. */
const POLL_MS = 5_000

export function openConfigFile(options: {
  readonly file: string
  readonly env: Readonly<Record<string, string | undefined>>
}): ConfigFile {
  /** What was read last, by path, as far as it may be read again. */
  let contents = new Map<string, string>()

  function read(): LoadResult {
    const next = new Map<string, string>()
    contents = next
    return loadConfig({
      ...options,
      readFile: (name) => {
        // A pipe gives its contents only once.
        if (isRegular(name)) next.set(name, fingerprint(name))
        return readFileSync(name, 'utf8')
      },
    })
  }

  return {
    file: options.file,
    read,
    watch: (onChange) => watchFiles(() => contents, onChange),
  }
}

function watchFiles(contents: () => ReadonlyMap<string, string>, onChange: () => void): () => void {
  let watchers: FSWatcher[] = []
  let settling: NodeJS.Timeout | undefined
  let seen = ''
  let watched: ReadonlyMap<string, string> | undefined
  const poll = setInterval(look, POLL_MS)
  poll.unref()
  watchFolders()

  /** Events only tell that something may have changed: whether it has is told by the files. */
  function look(): void {
    settling = undefined
    const before = contents()
    if (before !== watched) watchFolders()
    const now = describe([...before.keys()].map((name) => [name, fingerprint(name)]))
    if (now === describe([...before])) {
      seen = ''
    } else if (now === seen) {
      seen = ''
      onChange()
      // What it has read by then may stand elsewhere.
      settle()
    } else {
      seen = now
      settle()
    }
  }

  function settle(): void {
    settling ??= setTimeout(look, SETTLE_MS)
  }

  /** Folders, not files: editors and Kubernetes put new files in the place of old ones. */
  function watchFolders(): void {
    for (const watcher of watchers) watcher.close()
    watched = contents()
    watchers = listFolders(watched.keys()).flatMap((folder) => {
      try {
        const watcher = watch(folder, { persistent: false }, settle)
        watcher.on('error', () => watcher.close())
        return [watcher]
      } catch {
        return []
      }
    })
  }

  return () => {
    clearInterval(poll)
    clearTimeout(settling)
    for (const watcher of watchers) watcher.close()
  }
}

/** Where the names stand, and where what they lead to stands. */
function listFolders(names: Iterable<string>): string[] {
  const folders = [...names].flatMap((name) => [path.dirname(name), path.dirname(resolveLinks(name))])
  return [...new Set(folders.map((folder) => path.resolve(folder)))]
}

function resolveLinks(name: string): string {
  try {
    return realpathSync(name)
  } catch {
    return name
  }
}

function isRegular(name: string): boolean {
  return statSync(name, { throwIfNoEntry: false })?.isFile() !== false
}

/** Of the contents; empty where there are none. Secrets are not kept. */
function fingerprint(name: string): string {
  try {
    return createHash('sha256').update(readFileSync(name)).digest('hex')
  } catch {
    return ''
  }
}

function describe(contents: readonly (readonly [string, string])[]): string {
  return contents.map(([name, hash]) => `${name}\0${hash}`).join('\0')
}
