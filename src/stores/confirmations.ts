/** Tells the threads of this node something, and waits until each of them has confirmed it. */
export class Confirmations<Member extends object> {
  readonly #members = new Set<Member>()
  readonly #waiting = new Map<number, { readonly members: Set<Member>; readonly done: () => void }>()
  #lastId = 0

  join(member: Member): { confirm(id: number): void; leave(): void } {
    this.#members.add(member)
    return {
      confirm: (id) => this.#settle(id, member),
      leave: () => {
        this.#members.delete(member)
        for (const id of [...this.#waiting.keys()]) this.#settle(id, member)
      },
    }
  }

  /** `false`: a thread did not confirm in time. One that ends meanwhile need not any more. */
  ask(tell: (member: Member, id: number) => void, timeoutMs: number): Promise<boolean> {
    if (this.#members.size === 0) return Promise.resolve(true)
    const id = ++this.#lastId
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        resolve(false)
      }, timeoutMs)
      const done = () => {
        clearTimeout(timer)
        resolve(true)
      }
      this.#waiting.set(id, { members: new Set(this.#members), done })
      for (const member of this.#members) tell(member, id)
    })
  }

  #settle(id: number, member: Member): void {
    const round = this.#waiting.get(id)
    if (!round?.members.delete(member) || round.members.size > 0) return
    this.#waiting.delete(id)
    round.done()
  }
}
