/**
 * A set of prefixes that answers "which one holds this address?" in one hash lookup per distinct prefix length; few lengths
 * occur in practice. (`net.BlockList` is linear: 53 µs at 10 000 rules.)
 */
import { type Address, bitsOf } from './address.ts';
import { covers, maskPrefix, type Prefix } from './prefix.ts';

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
  const tables: Record<4 | 6, Map<number, Map<string, Prefix>>> = { 4: new Map(), 6: new Map() };
  for (const prefix of members) {
    const byLength = tables[prefix.address.family];
    let table = byLength.get(prefix.length);
    if (table === undefined) {
      table = new Map();
      byLength.set(prefix.length, table);
    }
    table.set(keyOf(prefix), prefix);
  }
  for (const family of [4, 6] as const) {
    tables[family] = new Map([...tables[family]].sort(([a], [b]) => b - a));
  }

  const covering = (address: Address, longest: number): Prefix | null => {
    for (const [length, table] of tables[address.family]) {
      if (length > longest) continue;
      const found = table.get(keyOf(maskPrefix(address, length)));
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

function keyOf(prefix: Prefix): string {
  return String.fromCharCode(...prefix.address.bytes);
}
