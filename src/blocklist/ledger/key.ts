/**
 * A target as the ledger's key: family (4 or 6), address in network order, length. Keys compare like people sort: IPv4 first,
 * then by address, then the wider first; so everything within a prefix is one range.
 */
import { bitsOf } from '../../address/address.ts';
import { maskPrefix, type Prefix } from '../../address/prefix.ts';

export function keyOfTarget({ address, length }: Prefix): Buffer {
  const key = Buffer.alloc(address.bytes.length + 2);
  key[0] = address.family;
  key.set(address.bytes, 1);
  key[key.length - 1] = length;
  return key;
}

/** RangeError for bytes that are no key. */
export function targetOfKey(key: Uint8Array): Prefix {
  const family = key[0];
  const length = key.at(-1) ?? -1;
  if ((family !== 4 && family !== 6) || key.length !== bitsOf(family) / 8 + 2 || length > bitsOf(family)) {
    throw new RangeError(`${Buffer.from(key.subarray(0, 20)).toString('hex')} is no target`);
  }
  return { address: { family, bytes: Uint8Array.from(key.subarray(1, -1)) }, length };
}

/** First and last key of what may lie within a prefix; of those the ones whose length is not shorter than its own do. */
export function keysWithin({ address, length }: Prefix): readonly [first: Buffer, last: Buffer] {
  const first = keyOfTarget({ address, length: 0 });
  const last = keyOfTarget({ address, length: 255 });
  for (let bit = length; bit < bitsOf(address.family); bit++) {
    const at = 1 + (bit >> 3);
    last[at] = (last[at] ?? 0) | (0x80 >> (bit & 7));
  }
  return [first, last];
}

/** Of the target itself and every prefix that holds it whole, the widest first. */
export function keysHolding({ address, length }: Prefix): Buffer[] {
  const keys: Buffer[] = [];
  for (let wider = 0; wider <= length; wider++) keys.push(keyOfTarget(maskPrefix(address, wider)));
  return keys;
}
