import { describe, expect, it } from 'vitest'
import type { ToStorage } from '../../src/stores/embedded/messages.ts'
import { StorageClient } from '../../src/stores/embedded/storage-client.ts'

describe('the control thread’s end of the storage thread', () => {
  it('does what must follow a commit before it answers', async () => {
    const posted: ToStorage[] = []
    const client = new StorageClient((message) => posted.push(message))
    const order: string[] = []
    const run = client.run('deleteKey', ['ks_a', 'k_a'], (seq) => {
      order.push(`followed ${seq}`)
      return seq !== undefined
    })
    void run.then((deleted) => order.push(`answered ${deleted}`))
    expect(posted).toEqual([{ kind: 'job', id: 1, name: 'deleteKey', params: ['ks_a', 'k_a'] }])
    client.settle({ kind: 'done', id: 1, result: 7 })
    await run
    expect(order).toEqual(['followed 7', 'answered true'])
    client.close()
  })

  it('does it too when the commit comes after the caller has given up', async () => {
    const client = new StorageClient(() => {}, 20)
    const followed: unknown[] = []
    const run = client.run('deleteKey', ['ks_a', 'k_a'], (seq) => followed.push(seq))
    await expect(run).rejects.toMatchObject({ code: 'store_unavailable' })
    client.settle({ kind: 'done', id: 1, result: 7 })
    expect(followed).toEqual([7])
    client.close()
  })

  it('refuses what waits when the thread ends, and everything after', async () => {
    const client = new StorageClient(() => {})
    const run = client.run('deleteKey', ['ks_a', 'k_a'])
    client.close()
    await expect(run).rejects.toMatchObject({ code: 'store_unavailable' })
    await expect(client.run('deleteKey', ['ks_a', 'k_a'])).rejects.toMatchObject({
      code: 'store_unavailable',
    })
  })

  it('hands on what the job refused with', async () => {
    const client = new StorageClient(() => {})
    const run = client.run('createKey', [
      { kid: 'k', ksid: 'ks_a', tokenHash: '', createdAtMs: 0, expiresAt: undefined, ownLimit: undefined },
    ])
    client.settle({ kind: 'failed', id: 1, code: 'keyspace_not_found', internal: 'not there' })
    await expect(run).rejects.toMatchObject({ code: 'keyspace_not_found' })
    client.close()
  })
})
