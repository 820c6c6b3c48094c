import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createRequestIds } from '../../src/app/request-ids.ts'

describe('createRequestIds', () => {
  it('makes random UUIDs, each of them once, with every digit in use where digits are free', () => {
    const create = createRequestIds({ bytes: randomBytes })
    const ids = Array.from({ length: 3000 }, create)
    expect(new Set(ids).size).toBe(3000)
    const digits = Array.from({ length: 36 }, () => new Set<string>())
    for (const id of ids) {
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      for (const [index, digit] of [...id].entries()) digits[index]?.add(digit)
    }
    expect(digits.map((seen) => seen.size)).toEqual(
      Array.from('xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx', (place) =>
        place === 'x' ? 16 : place === 'v' ? 4 : 1,
      ),
    )
  })
})
