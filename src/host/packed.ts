/** Prefixes as bytes, to hand from one thread to another without a copy and to compare as a whole. */
import type { Prefix } from '../address/prefix.ts';

/** Family, length, address (IPv4 in the first four of its sixteen bytes). */
const recordSize = 18;

export function packPrefixes(prefixes: readonly Prefix[]): Uint8Array<ArrayBuffer> {
  const packed = new Uint8Array(prefixes.length * recordSize);
  for (const [index, { address, length }] of prefixes.entries()) {
    const at = index * recordSize;
    packed[at] = address.family;
    packed[at + 1] = length;
    packed.set(address.bytes, at + 2);
  }
  return packed;
}

export function unpackPrefixes(packed: Uint8Array): Prefix[] {
  const prefixes: Prefix[] = [];
  for (let at = 0; at + recordSize <= packed.length; at += recordSize) {
    const family = packed[at] === 4 ? 4 : 6;
    const bytes = packed.slice(at + 2, at + (family === 4 ? 6 : recordSize));
    prefixes.push({ address: { family, bytes }, length: packed[at + 1] ?? 0 });
  }
  return prefixes;
}
