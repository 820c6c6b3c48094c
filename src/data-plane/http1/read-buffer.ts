const READ_BYTES = 64 * 1024

/** What sockets read into, one after another: what was read is used or copied before the next read. */
export function createReadBuffer(): Buffer {
  return Buffer.allocUnsafeSlow(READ_BYTES)
}
