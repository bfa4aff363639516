/** Many targets in 18 bytes each: a million of them as objects would take some 200 MB. */
import { bitsOf } from '../address/address.ts';
import type { Prefix } from '../address/prefix.ts';

/** Family, 16 bytes of address, length: rows compare as people sort, and as the ledger's keys do (ledger/key.ts). */
const width = 18;

export class TargetList {
  #bytes = new Uint8Array(1024 * width);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push({ address, length }: Prefix): void {
    const at = this.#length * width;
    if (at === this.#bytes.length) {
      const grown = new Uint8Array(2 * at);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[at] = address.family;
    this.#bytes.set(address.bytes, at + 1);
    this.#bytes[at + width - 1] = length;
    this.#length++;
  }

  /** RangeError beyond the end. */
  at(n: number): Prefix {
    if (n < 0 || n >= this.#length) throw new RangeError(`there is no target ${n} of ${this.#length}`);
    const at = n * width;
    const family = this.#bytes[at] === 4 ? 4 : 6;
    const bytes = this.#bytes.slice(at + 1, at + 1 + bitsOf(family) / 8);
    return { address: { family, bytes }, length: this.#bytes[at + width - 1] ?? 0 };
  }

  /** As an array's, but only from the beginning on. */
  slice(first: number, end: number): Prefix[] {
    const some: Prefix[] = [];
    for (let n = first; n < Math.min(end, this.#length); n++) some.push(this.at(n));
    return some;
  }

  isSame(a: number, b: number): boolean {
    const bytes = this.#bytes;
    for (let i = 0; i < width; i++) if (bytes[a * width + i] !== bytes[b * width + i]) return false;
    return true;
  }

  /** The rows' numbers, sorted by address, the wider first; equal ones as they came. A radix sort, from the last byte on. */
  order(): Uint32Array {
    const [bytes, length] = [this.#bytes, this.#length];
    let from = new Uint32Array(length);
    for (let n = 0; n < length; n++) from[n] = n;
    let to = new Uint32Array(length);
    for (let byte = width - 1; byte >= 0; byte--) {
      const starts = new Uint32Array(257);
      for (let n = 0; n < length; n++) {
        const value = (bytes[n * width + byte] ?? 0) + 1;
        starts[value] = (starts[value] ?? 0) + 1;
      }
      if (starts.includes(length)) continue; // the same in all of them
      for (let value = 1; value < starts.length; value++)
        starts[value] = (starts[value] ?? 0) + (starts[value - 1] ?? 0);
      for (let n = 0; n < length; n++) {
        const row = from[n] ?? 0;
        const value = bytes[row * width + byte] ?? 0;
        const place = starts[value] ?? 0;
        to[place] = row;
        starts[value] = place + 1;
      }
      [from, to] = [to, from];
    }
    return from;
  }
}
