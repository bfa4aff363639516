/**
 * What root allows: the tries `allowed_cidr_v4` and `_v6`. An allow outranks every block; its end is CLOCK_MONOTONIC without
 * the skew, which the service may write.
 */
import { bitsOf } from '../address/address.ts';
import { comparePrefixes, covers, maskPrefix, type Prefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { monotonicNs, secondsLeft } from './clock.ts';
import { forEver, layout, splitTrieKey, trieKey } from './layout.ts';
import { isNativeError } from './native.ts';
import type { PinnedSet } from './set.ts';

export interface Allow {
  readonly prefix: Prefix;
  /** null = for ever. */
  readonly seconds: number | null;
}

/** An entry, there or wished for. */
export interface AllowEntry {
  readonly prefix: Prefix;
  /** CLOCK_MONOTONIC ns, or {@link forEver}. */
  readonly until: bigint;
}

const { until, prefix_length } = layout.allow.members;

const families = [4, 6] as const;

const nameOf = (family: 4 | 6): string => `allowed_cidr_v${family}`;

/**
 * The live allows that hold `target` whole, the longest first. Throws `not_permitted` for who may not read the tries (root
 * and the service's group may).
 */
export function coveringAllows(set: PinnedSet, target: Prefix, now: bigint = monotonicNs()): Allow[] {
  const { address } = target;
  const trie = set.map(nameOf(address.family), true);
  const found: Allow[] = [];
  for (let length = target.length; length >= 0; ) {
    const value = trie.lookup(trieKey({ address, length }));
    if (value === null) break;
    const at = Math.min(value.readUInt8(prefix_length[0]), length);
    const seconds = secondsLeft(value.readBigUInt64LE(until[0]), now);
    if (seconds !== 0) found.push({ prefix: maskPrefix(address, at), seconds });
    length = at - 1;
  }
  return found;
}

/**
 * Every entry, ended ones too. One that is not as ours are counts as ended, so that it is written anew. `readOnly` false where
 * {@link applyAllows} follows on the same set.
 */
export function readAllows(set: PinnedSet, readOnly = true): AllowEntry[] {
  return families.flatMap((family) => {
    const trie = set.map(nameOf(family), readOnly);
    const found: AllowEntry[] = [];
    for (let key = trie.nextKey(null); key !== null; key = trie.nextKey(key)) {
      const value = trie.lookup(key);
      if (value === null) continue;
      const { bytes, length } = splitTrieKey(key);
      if (length > bitsOf(family)) continue; // another tool's: no packet meets it
      const isOurs = value.readUInt8(prefix_length[0]) === length;
      found.push({
        prefix: networkOf(family, bytes, length),
        until: isOurs ? value.readBigUInt64LE(until[0]) : 0n,
      });
    }
    return found;
  });
}

/** In the trie's own family: ::ffff:0:0/96 in the one of IPv6 is no IPv4. The kernel compares no bits beyond the length. */
function networkOf(family: 4 | 6, address: Uint8Array, length: number): Prefix {
  const bytes = Uint8Array.from(address);
  for (let bit = length; bit < bitsOf(family); bit++) {
    const at = bit >> 3;
    bytes[at] = (bytes[at] ?? 0) & ~(0x80 >> (bit & 7));
  }
  return { address: { family, bytes }, length };
}

/** One step on the way from what is allowed to what shall be. */
export interface AllowStep {
  readonly kind: 'add' | 'raise' | 'lower' | 'remove';
  readonly prefix: Prefix;
  /** Its end after the step; of a removal the one it had. */
  readonly until: bigint;
}

/** Ends are computed from the wall clock each time; this much is between two readings, or clocks that are slewed. */
const sameEndNs = 1_000_000_000n;

/**
 * Tries before 6.13 refuse to overwrite an entry when they are full (lpm_trie.c): one place is left free.
 */
export const spareAllows = 1;

export interface AllowPlan {
  readonly before: readonly AllowEntry[];
  /** Each prefix once. */
  readonly wanted: readonly AllowEntry[];
  readonly now: bigint;
  /** Entries of one trie. */
  readonly capacity: number;
  /** Nothing is removed or shortened. */
  readonly keep?: boolean;
}

/**
 * The steps from one to the other: adds, raises, then lowers and removals, so that at no moment an address is less protected
 * than before and after. Where there is no room for that, what is in nobody's way goes first: what has ended, and what shares
 * no address with what is to be added. Throws `allows_full`, and then nothing was done.
 */
export function planAllows({ before, wanted, now, capacity, keep = false }: AllowPlan): AllowStep[] {
  return families.flatMap((family) =>
    planFamily({
      before: before.filter(({ prefix }) => prefix.address.family === family),
      wanted: wanted.filter((entry) => entry.prefix.address.family === family && isLive(entry.until, now)),
      now,
      capacity,
      keep,
    }),
  );
}

function planFamily({ before, wanted, now, capacity, keep }: Required<AllowPlan>): AllowStep[] {
  const held = new Map(before.map((entry) => [keyOf(entry.prefix), entry]));
  const wishes = new Map(wanted.map((entry) => [keyOf(entry.prefix), entry]));
  const adds: AllowStep[] = [];
  const raises: AllowStep[] = [];
  const lowers: AllowStep[] = [];
  const fresh: Prefix[] = [];
  for (const [key, { prefix, until: end }] of wishes) {
    const had = held.get(key)?.until;
    if (had === undefined) fresh.push(prefix);
    if (had === undefined || !isLive(had, now)) adds.push({ kind: 'add', prefix, until: end });
    else if (isSameEnd(had, end)) continue;
    else if (end > had) raises.push({ kind: 'raise', prefix, until: end });
    else if (!keep) lowers.push({ kind: 'lower', prefix, until: end });
  }
  const gone = before.filter((entry) => !wishes.has(keyOf(entry.prefix)) && (!keep || !isLive(entry.until, now)));
  const remove = (entry: AllowEntry): AllowStep => ({ kind: 'remove', ...entry });

  const room = capacity - spareAllows;
  if (before.length + fresh.length <= room) {
    return [...adds, ...raises, ...lowers, ...gone.map(remove)];
  }
  const added = fresh.toSorted(comparePrefixes);
  const first = gone.filter((entry) => !isLive(entry.until, now) || !sharesAddress(added, entry.prefix));
  if (before.length - first.length + fresh.length > room) {
    const family = before[0]?.prefix.address.family ?? wanted[0]?.prefix.address.family ?? 4;
    throw new FalcodropError(
      'allows_full',
      `${wanted.length} prefixes of IPv${family} would have to be allowed, and the kernel holds ${room}; nothing was changed`,
      'take some out of the allow files, or name wider prefixes',
    );
  }
  const early = new Set(first);
  return [
    ...first.map(remove),
    ...adds,
    ...raises,
    ...lowers,
    ...gone.filter((entry) => !early.has(entry)).map(remove),
  ];
}

const isLive = (end: bigint, now: bigint): boolean => now < end;

function isSameEnd(a: bigint, b: bigint): boolean {
  if (a === forEver || b === forEver) return a === b;
  const apart = a - b;
  return apart <= sameEndNs && apart >= -sameEndNs;
}

function keyOf({ address, length }: Prefix): string {
  return `${Buffer.from(address.bytes).toString('latin1')}/${length}`;
}

/** Whether a member of the sorted list holds an address of the prefix. */
function sharesAddress(sorted: readonly Prefix[], prefix: Prefix): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const at = sorted[middle];
    if (at !== undefined && comparePrefixes(at, prefix) < 0) low = middle + 1;
    else high = middle;
  }
  const next = sorted[low];
  if (next !== undefined && covers(prefix, next)) return true;
  // Wider ones stand before it, nested in one another and with others between them.
  const { address } = prefix;
  for (let length = 0; length <= prefix.length; length++) {
    if (has(sorted, networkOf(address.family, address.bytes, length))) return true;
  }
  return false;
}

function has(sorted: readonly Prefix[], prefix: Prefix): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const at = sorted[middle];
    const order = at === undefined ? 1 : comparePrefixes(at, prefix);
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return false;
}

/** In their order. An update of a trie's node is one pointer: a packet meets the old one or the new one. */
export function applyAllows(set: PinnedSet, steps: readonly AllowStep[]): void {
  for (const step of steps) {
    const { family } = step.prefix.address;
    const trie = set.map(nameOf(family));
    try {
      if (step.kind === 'remove') trie.delete(trieKey(step.prefix));
      else trie.update(trieKey(step.prefix), encodeAllow(step));
      fault('protect.stepping');
    } catch (error) {
      if (!isNativeError(error)) throw error;
      const frozen = trie.info.frozen;
      throw new FalcodropError(
        'kernel_call',
        frozen
          ? `the map ${nameOf(family)} is frozen: nobody can change it any more`
          : `the map ${nameOf(family)}: ${error.message}`,
        frozen ? 'build the set anew: falcodrop detach --all --purge, then attach' : undefined,
        error,
      );
    }
  }
}

function encodeAllow({ prefix, until: end }: AllowEntry): Buffer {
  const value = Buffer.alloc(layout.allow.size);
  value.writeBigUInt64LE(end, until[0]);
  value.writeUInt8(prefix.length, prefix_length[0]);
  return value;
}

/** Entries that one trie holds. */
export function allowCapacity(set: PinnedSet): number {
  return Math.min(...families.map((family) => set.map(nameOf(family), true).info.maxEntries));
}
