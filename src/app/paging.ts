import type { Page, PageRequest } from '../ports/stores.ts'

/** Absent and 0 mean the first page, and ten items (contract section 5, point 11). */
export interface ListOptions {
  readonly page?: number | undefined
  readonly limit?: number | undefined
}

export interface ListView {
  page: number
  limit: number
  last_page: number
}

const LIMIT_DEFAULT = 10
/** A page beyond this is empty anyway; the bound keeps the stores' offsets exact. */
const PAGE_MAX = 2 ** 31 - 1

export interface ListPage<T> {
  readonly list: ListView
  readonly items: readonly T[]
}

/** Asks `load` for one page. A page past the end is empty, and is echoed as it was asked for. */
export async function loadPage<T>(
  options: ListOptions,
  load: (page: PageRequest) => Promise<Page<T>>,
): Promise<ListPage<T>> {
  const page = options.page || 1
  const limit = options.limit || LIMIT_DEFAULT
  const { items, total } = await load({ page: Math.min(page, PAGE_MAX), limit })
  return { list: { page, limit, last_page: Math.max(1, Math.ceil(total / limit)) }, items }
}
