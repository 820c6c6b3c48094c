import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import { Roster } from '../../src/data-plane/front/roster.ts'
import { createDice } from '../support/http1-corpus.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

interface Member {
  readonly id: number
}

it('is a set, whatever comes and goes', () => {
  const dice = createDice(7)
  const roster = new Roster<Member>()
  const model = new Set<Member>()
  const members = Array.from({ length: 30 }, (_, id) => ({ id }))
  for (let step = 0; step < 20_000; step++) {
    const member = dice.pick(members)
    if (dice.roll(2) === 0) {
      roster.add(member)
      model.add(member)
    } else {
      expect(roster.delete(member)).toBe(model.delete(member))
    }
    if (step % 100 === 0) expect(new Set(roster)).toEqual(model)
  }
})

it('goes through all that were there when it began, though they leave on the way', () => {
  const roster = new Roster<Member>()
  const members = Array.from({ length: 10 }, (_, id) => ({ id }))
  for (const member of members) roster.add(member)
  const seen: Member[] = []
  for (const member of roster) {
    seen.push(member)
    for (const other of members.slice(0, 5)) roster.delete(other)
  }
  expect(seen).toEqual(members)
  expect([...roster].sort((a, b) => a.id - b.id)).toEqual(members.slice(5))
})

/** Bytes that became old while members came and went. */
function countOldBytes(members: Set<object> | Roster<object>): number {
  const read = () =>
    getHeapSpaceStatistics().find((space) => space.space_name === 'old_space')?.space_used_size ?? Number.NaN
  members.add({})
  collect()
  collect()
  let grown = 0
  let before = read()
  const present: object[] = []
  for (let i = 0; i < 300_000; i++) {
    const member = { list: new Array<number>(20).fill(i) }
    members.add(member)
    present.push(member)
    if (present.length > 64) members.delete(present.shift() ?? member)
    if (i % 1000 !== 0) continue
    const after = read()
    grown += Math.max(0, after - before)
    before = after
  }
  return grown
}

it('lets those go that have left, which a Set does not', () => {
  expect(countOldBytes(new Roster())).toBeLessThan(1_000_000)
  // The day that this is no longer so, a Set will do.
  expect(countOldBytes(new Set())).toBeGreaterThan(3_000_000)
})
