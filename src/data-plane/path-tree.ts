import { type PathParts, readSegment } from './request-path.ts'
import type { Route } from './route.ts'

export interface Match {
  readonly kind: 'route'
  readonly route: Route
}

/** A path, by its segments from the root of one host. */
export interface PathNode {
  readonly children: Map<string, PathNode>
  /** Routes of exactly this path, in order of precedence. */
  readonly matches: Match[]
  readonly parent: PathNode | undefined
}

export function createPathNode(parent?: PathNode): PathNode {
  return { children: new Map(), matches: [], parent }
}

/** Among routes of one path the one with more conditions goes first, then the earlier one. */
export function insertMatch(root: PathNode, segments: readonly string[], match: Match): void {
  let node = root
  for (const segment of segments) {
    const child = node.children.get(segment) ?? createPathNode(node)
    node.children.set(segment, child)
    node = child
  }
  node.matches.push(match)
  node.matches.sort(
    (a, b) => countConditions(b.route) - countConditions(a.route) || a.route.index - b.route.index,
  )
}

/** The deepest node on a path that can be read in one way only. */
export function descendPath(root: PathNode, path: string): PathNode {
  let node = root
  for (let start = 1; start < path.length && node.children.size > 0; ) {
    const slash = path.indexOf('/', start)
    const end = slash < 0 ? path.length : slash
    const child = node.children.get(path.slice(start, end))
    if (child === undefined) return node
    node = child
    start = end + 1
  }
  return node
}

/** The deepest node on a path in one of its readings. */
export function descendReading(root: PathNode, parts: PathParts, reading: number): PathNode {
  let node = root
  for (let place = 0; place < parts.raw.length; place++) {
    const segment = readSegment(parts, place, reading)
    const child = segment === undefined ? undefined : node.children.get(segment)
    if (child === undefined) return node
    node = child
  }
  return node
}

function countConditions(route: Route): number {
  return route.fieldConditions.length + (route.methods === undefined ? 0 : 1)
}
