/**
 * A set of prefixes that answers "which one holds this address?" in one hash lookup per distinct prefix length; few lengths
 * occur in practice. (`net.BlockList` is linear: 53 µs at 10 000 rules.)
 */
import { type Address, bitsOf } from './address.ts';
import { covers, type Prefix } from './prefix.ts';

export interface PrefixSet {
  readonly prefixes: readonly Prefix[];
  /** The longest member that holds the address, or null. */
  covering(address: Address): Prefix | null;
  /** A member inside `prefix` (or equal to it), or one that holds it whole; null when they share no address. */
  overlapping(prefix: Prefix): Prefix | null;
}

export function prefixSet(prefixes: Iterable<Prefix>): PrefixSet {
  const members = [...prefixes];
  /** By family, then length (longest first), then the network's bytes. */
  const tables: Record<4 | 6, Map<number, Map<Key, Prefix>>> = { 4: new Map(), 6: new Map() };
  for (const prefix of members) {
    const byLength = tables[prefix.address.family];
    let table = byLength.get(prefix.length);
    if (table === undefined) {
      table = new Map();
      byLength.set(prefix.length, table);
    }
    table.set(keyOf(prefix.address, prefix.length), prefix);
  }
  for (const family of [4, 6] as const) {
    tables[family] = new Map([...tables[family]].sort(([a], [b]) => b - a));
  }

  const covering = (address: Address, longest: number): Prefix | null => {
    for (const [length, table] of tables[address.family]) {
      if (length > longest) continue;
      const found = table.get(keyOf(address, length));
      if (found !== undefined) return found;
    }
    return null;
  };

  return {
    prefixes: members,
    covering: (address) => covering(address, bitsOf(address.family)),
    overlapping: (prefix) =>
      covering(prefix.address, prefix.length) ?? members.find((member) => covers(prefix, member)) ?? null,
  };
}

/** The network's bits: a number for IPv4, characters for IPv6. Only compared within one family and length. */
type Key = number | string;

function keyOf({ family, bytes }: Address, length: number): Key {
  const [a = 0, b = 0, c = 0, d = 0] = bytes;
  // A shift by 32 would be one by 0.
  if (family === 4) return length === 0 ? 0 : ((a << 24) | (b << 16) | (c << 8) | d) & (-1 << (32 - length));
  const whole = length >> 3;
  let key = '';
  for (let i = 0; i < whole; i++) key += String.fromCharCode(bytes[i] ?? 0);
  const rest = length & 7;
  return rest === 0 ? key : key + String.fromCharCode((bytes[whole] ?? 0) & (0xff00 >> rest) & 0xff);
}
