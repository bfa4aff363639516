/**
 * The pinned set in force, opened: typed maps and the change programs.
 *
 * Maps are opened when first used, each with no more rights than its pin gives the service (DESIGN's table: block maps and
 * hints read-write for root and service, the rest read-only).
 */
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { bitsOf } from '../address/address.ts';
import { isHost, type Prefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { dropNow, followSuspend } from './clock.ts';
import {
  type BlockValue,
  change_operation,
  change_result,
  decodeBlock,
  decodeSettings,
  encodeBlock,
  encodeChange,
  FALCODROP_FORMAT,
  hint_prefixes,
  keyOf,
  layout,
  type Settings,
  splitTrieKey,
  targetOf,
  trieKey,
} from './layout.ts';
import { type BpfMap, type BpfProgram, isNativeError, type MappedArray, native } from './native.ts';
import { notReachable, type PinPaths, requirePins } from './pins.ts';

export const blockMapNames = ['blocked_v4', 'blocked_v6', 'blocked_cidr_v4', 'blocked_cidr_v6'] as const;
export type BlockMapName = (typeof blockMapNames)[number];

/** Entries a LOOKUP_BATCH asks for at first, and at most (a bucket may hold more than one asks for: ENOSPC). */
const batch = 4096;
const batchLimit = 1 << 20;

const firstSettings = Buffer.alloc(4);
const hintsOfPrefixes = layout.hints.members.prefixes[0];

export type Change = 'absent' | 'changed' | 'unchanged';

export class PinnedSet {
  readonly paths: PinPaths;
  /** Directory of the set, resolved once: what `current` pointed to. */
  readonly dir: string;
  readonly settings: Settings;
  readonly hints: MappedArray;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  /** Throws `pin_dir_missing`, `not_permitted`, or `layout_mismatch` for maps that this version must not write to. */
  constructor(pinDir: string) {
    this.paths = requirePins(pinDir);
    this.dir = join(this.paths.dir, readlinkSync(this.paths.current));
    try {
      const settings = this.map('settings', true);
      if (settings.info.valueSize !== layout.settings.size) throw this.#mismatch('settings', settings.info.valueSize);
      this.settings = decodeSettings(settings.lookup(firstSettings) ?? Buffer.alloc(layout.settings.size));
      if (this.settings.format !== FALCODROP_FORMAT) {
        throw new FalcodropError(
          'layout_mismatch',
          `the maps under ${this.dir} have format ${this.settings.format}, this falcodrop writes format ${FALCODROP_FORMAT}`,
          'use the falcodrop that attached them, or begin anew: falcodrop detach --all --purge',
        );
      }
      this.hints = this.map('hints').mmap();
      // All at once: what does not fit is refused before anything is done, and the first alert waits for no open().
      for (const name of blockMapNames) this.blockMap(name);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  map(name: string, readOnly = false): BpfMap {
    const open = this.#maps.get(name);
    if (open !== undefined) return open;
    const map = this.#reach(name, (path) => native().openMap(path, { readOnly }));
    this.#maps.set(name, map);
    return map;
  }

  program(name: 'change' | 'change_cidr'): BpfProgram {
    const open = this.#programs.get(name);
    if (open !== undefined) return open;
    const program = this.#reach(name, (path) => native().openProgram(path));
    this.#programs.set(name, program);
    return program;
  }

  /** The map that holds a target, its value size checked once at opening. */
  blocks(target: Prefix): BpfMap {
    return this.blockMap(mapNameOf(target));
  }

  blockMap(name: BlockMapName): BpfMap {
    const open = this.#maps.get(name);
    if (open !== undefined) return open;
    const map = this.map(name);
    // Asked once: the answer is a system call.
    const { valueSize } = map.info;
    if (valueSize === layout.block.size) return map;
    this.#maps.delete(name);
    map.close();
    throw this.#mismatch(name, valueSize);
  }

  /** The drop clock now. */
  now(): bigint {
    return dropNow(this.hints);
  }

  /** Makes the drop clock right after a suspend, for every entry at once; by how many ns it moved, null: it was right. */
  followSuspend(): bigint | null {
    return followSuspend(this.hints);
  }

  /**
   * Whether `current` still points here and the maps there are these: after an upgrade or a purge an update through the old
   * descriptors would succeed and block nothing. Asked by every writer that has taken the lock.
   */
  isCurrent(): boolean {
    try {
      if (join(this.paths.dir, readlinkSync(this.paths.current)) !== this.dir) return false;
      const pinned = native().openMap(join(this.dir, 'settings'), { readOnly: true });
      const same = pinned.info.id === this.map('settings').info.id;
      pinned.close();
      return same;
    } catch {
      return false;
    }
  }

  /** The entry of exactly this target: a trie, asked for a prefix, finds a wider one too. */
  lookup(target: Prefix): BlockValue | null {
    const bytes = this.blocks(target).lookup(keyOf(target));
    const value = bytes === null ? null : decodeBlock(bytes);
    return value === null || isHost(target) || value.prefixLength === target.length ? value : null;
  }

  /**
   * A new entry; false when there is one already (BPF_NOEXIST). The tries ignored the flag before 6.13 and would overwrite:
   * callers hold the lock and have looked. `map_full` names map and size.
   */
  insert(target: Prefix, value: Omit<BlockValue, 'prefixLength' | 'packets' | 'bytes' | 'lastSeen'>): boolean {
    const map = this.blocks(target);
    if (!isHost(target)) {
      this.hintPrefixes(target.address.family);
      fault('insert.hinted');
    }
    const bytes = encodeBlock({ ...value, prefixLength: target.length, packets: 0n, bytes: 0n, lastSeen: 0n });
    try {
      map.update(keyOf(target), bytes, 1);
      fault('insert.placed');
      return true;
    } catch (error) {
      if (!isNativeError(error)) throw error;
      if (error.code === 'EEXIST') return false;
      if (error.code === 'E2BIG' || error.code === 'ENOSPC')
        throw mapFull(mapNameOf(target), map.info.maxEntries, error);
      throw this.#refused(mapNameOf(target), error);
    }
  }

  /** Alters an entry in place: no packet in between sees it absent, no count is lost. `set` only under the exclusive lock. */
  change(operation: 'raise' | 'set', target: Prefix, value: Parameters<typeof encodeChange>[2]): Change {
    const code = operation === 'raise' ? change_operation.CHANGE_RAISE : change_operation.CHANGE_SET;
    const args = encodeChange(code, target, value);
    // The tries' program is a socket filter: 14 bytes stand for the Ethernet header, which the kernel cuts off.
    const result = isHost(target)
      ? this.program('change').testRun({ context: args })
      : this.program('change_cidr').testRun({ data: Buffer.concat([Buffer.alloc(14), args]) });
    switch (result.returnValue) {
      case change_result.CHANGE_ABSENT:
        return 'absent';
      case change_result.CHANGE_DONE:
        return 'changed';
      case change_result.CHANGE_UNCHANGED:
        return 'unchanged';
      default:
        throw new FalcodropError(
          'kernel_call',
          `the kernel's change program refused its arguments (${result.returnValue})`,
        );
    }
  }

  /** False when there was none. Under the lock. */
  remove(target: Prefix): boolean {
    try {
      const wasThere = this.blocks(target).delete(keyOf(target));
      fault('remove.taken');
      return wasThere;
    } catch (error) {
      throw isNativeError(error) ? this.#refused(mapNameOf(target), error) : error;
    }
  }

  /** Every entry of one map, in slices of a batch call. An entry changed meanwhile may be seen old, new, or twice. */
  *entries(name: BlockMapName): Generator<{ readonly target: Prefix; readonly value: BlockValue }> {
    const map = this.blockMap(name);
    const trie = name.includes('cidr');
    const { keySize } = map.info;
    const longest = name.endsWith('v4') ? 32 : 128;
    let limit = batch;
    let cursor: Buffer | null = null;
    for (;;) {
      let slice: ReturnType<BpfMap['lookupBatch']>;
      try {
        slice = map.lookupBatch(cursor, limit);
      } catch (error) {
        if (isNativeError(error) && error.code === 'ENOSPC' && limit < batchLimit) {
          limit *= 4;
          continue;
        }
        throw error;
      }
      for (let i = 0; i < slice.count; i++) {
        const key = slice.keys.subarray(i * keySize, (i + 1) * keySize);
        if (trie && splitTrieKey(key).length > longest) continue; // another tool's: no packet meets it
        yield { target: targetOf(key, trie), value: decodeBlock(slice.values, i * layout.block.size) };
      }
      cursor = slice.cursor;
      if (cursor === null) return;
    }
  }

  /** The longest prefix entry of at most `longest` bits over this address, or null: what the XDP program would find. */
  longestPrefix(address: Prefix['address'], longest: number): BlockValue | null {
    const map = this.blockMap(address.family === 4 ? 'blocked_cidr_v4' : 'blocked_cidr_v6');
    const value = map.lookup(trieKey({ address, length: Math.min(longest, bitsOf(address.family)) }));
    return value === null ? null : decodeBlock(value);
  }

  /** "There are prefixes": set before the first insert, or the XDP program would not look. */
  hintPrefixes(family: 4 | 6): void {
    this.hints.or32(hintsOfPrefixes, family === 4 ? hint_prefixes.PREFIXES_V4 : hint_prefixes.PREFIXES_V6);
  }

  /** Clears the hint of a family whose trie is empty. Only under the exclusive lock: prefixes are never inserted without it. */
  unhintPrefixes(family: 4 | 6): void {
    const map = this.blockMap(family === 4 ? 'blocked_cidr_v4' : 'blocked_cidr_v6');
    if (map.nextKey(null) !== null) return;
    fault('unhint.seen');
    const bit = family === 4 ? hint_prefixes.PREFIXES_V4 : hint_prefixes.PREFIXES_V6;
    this.hints.store32(hintsOfPrefixes, this.hints.load32(hintsOfPrefixes) & ~bit);
  }

  /** Whether the XDP program looks at this family's prefixes. What a foreign tool inserted has no hint. */
  hintsPrefixes(family: 4 | 6): boolean {
    const bit = family === 4 ? hint_prefixes.PREFIXES_V4 : hint_prefixes.PREFIXES_V6;
    return (this.hints.load32(hintsOfPrefixes) & bit) !== 0;
  }

  #reach<T>(name: string, open: (path: string) => T): T {
    const path = join(this.dir, name);
    try {
      return open(path);
    } catch (error) {
      if (!isNativeError(error)) throw error;
      if (error.code === 'EACCES' || error.code === 'EPERM') throw notReachable(path, error);
      if (error.code !== 'ENOENT') throw error;
      requirePins(this.paths.dir); // purged meanwhile
      throw new FalcodropError(
        'layout_mismatch',
        `${path} is missing`,
        'begin anew: falcodrop detach --all --purge, then attach',
        error,
      );
    }
  }

  close(): void {
    this.hints?.close();
    for (const map of this.#maps.values()) map.close();
    for (const program of this.#programs.values()) program.close();
  }

  #mismatch(name: string, size: number): FalcodropError {
    return new FalcodropError(
      'layout_mismatch',
      `the map ${name} under ${this.dir} has values of ${size} bytes, which is not this version's layout`,
      'use the falcodrop that attached them, or begin anew: falcodrop detach --all --purge',
    );
  }

  #refused(name: string, error: Error & { code: string }): FalcodropError {
    if (error.code === 'EPERM') {
      const frozen = this.map(name).info.frozen;
      return new FalcodropError(
        frozen ? 'kernel_call' : 'not_permitted',
        frozen
          ? `the map ${name} is frozen: nobody can change it any more`
          : `the map ${name} may not be changed by this user`,
        frozen
          ? 'build the set anew: falcodrop detach --all --purge, then attach'
          : 'run it as root or as the service user',
        error,
      );
    }
    return new FalcodropError('kernel_call', `the map ${name}: ${error.message}`, undefined, error);
  }
}

export function mapNameOf(target: Prefix): BlockMapName {
  const four = target.address.family === 4;
  if (isHost(target)) return four ? 'blocked_v4' : 'blocked_v6';
  return four ? 'blocked_cidr_v4' : 'blocked_cidr_v6';
}

function mapFull(name: string, maxEntries: number, cause: unknown): FalcodropError {
  return new FalcodropError(
    'map_full',
    `the map ${name} is full (${maxEntries} entries)`,
    'unblock something, or begin anew with a larger one: falcodrop detach --all --purge, then attach with --addresses or --prefixes',
    cause,
  );
}
