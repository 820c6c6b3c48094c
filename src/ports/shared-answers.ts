/**
 * Where nodes share what they have cached, and hear of each other's purges. Names are short and
 * safe; what they hold is opaque here.
 */
export interface SharedAnswers {
  /** `elapsedMs`: how long it has been there. Nothing also where it cannot be asked in time. */
  get(name: string): Promise<{ readonly bytes: Uint8Array; readonly elapsedMs: number } | undefined>
  /** Keeps it for `keepMs` at most; what does not fit is left out, and what fails is forgotten. */
  put(name: string, bytes: Uint8Array, keepMs: number): void
  /** Whether no node is known to have purged these marks since purge number `since` of this `era`. */
  isUntouched(marks: readonly number[], since: number, era: string): boolean
  /** Changes when the numbers of purges start anew; empty while they are not known. */
  readonly era: string
  /** Tells the other nodes, without waiting for them. */
  spread(marks: readonly number[]): void
}
