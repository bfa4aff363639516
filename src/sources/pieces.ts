/** From how many bytes on a buffer is of use for what may come. */
const least = 4_096;

/**
 * `piece` behind the first `length` bytes of `held`: in place where there is room, else in one of twice the size, of `most` bytes
 * at most if that is enough. A list of pieces would do for honest senders; but how small they are is the sender's to choose, each
 * is an object of a hundred bytes and more, and may keep the whole buffer that it was read into.
 */
export function joined(held: Buffer, length: number, piece: Buffer, most: number): Buffer {
  const size = length + piece.length;
  let whole = held;
  if (size > held.length) {
    whole = Buffer.allocUnsafeSlow(Math.max(size, Math.min(most, Math.max(least, 2 * held.length))));
    held.copy(whole, 0, 0, length);
  }
  piece.copy(whole, length);
  return whole;
}
