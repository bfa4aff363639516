/**
 * What is pinned, looked at without believing that it is what this version would have made: every pin of a set, any map's
 * entries as bytes, and what of an entry another tool must have written.
 */
import { lstatSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import type { Prefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { u32 } from './attach.ts';
import { block_owner, count_kind, layout, MAX_SCOPES, MAX_SLOTS, splitTrieKey } from './layout.ts';
import { type BpfMap, isNativeError, type MapInfo, native, type ProgramInfo } from './native.ts';
import { notReachable, type PinPaths, requirePins } from './pins.ts';
import type { BlockMapName } from './set.ts';

/** `enum bpf_map_type` of uapi/linux/bpf.h, those that are met; the names are bpftool's. */
const mapTypes: Readonly<Record<number, string>> = {
  1: 'hash',
  2: 'array',
  3: 'prog_array',
  4: 'perf_event_array',
  5: 'percpu_hash',
  6: 'percpu_array',
  9: 'lru_hash',
  10: 'lru_percpu_hash',
  11: 'lpm_trie',
  12: 'array_of_maps',
  13: 'hash_of_maps',
  14: 'devmap',
  27: 'ringbuf',
};

const programTypes: Readonly<Record<number, string>> = { 1: 'socket_filter', 6: 'xdp', 31: 'syscall' };

/** `BPF_F_…` of uapi/linux/bpf.h. */
const mapFlags = { no_prealloc: 1 << 0, no_common_lru: 1 << 1, rdonly: 1 << 3, wronly: 1 << 4, mmapable: 1 << 10 };

export const mapTypeName = (type: number): string => mapTypes[type] ?? `type ${type}`;

export const programTypeName = (type: number): string => programTypes[type] ?? `type ${type}`;

/** What has no name here as a number. */
export function mapFlagNames(flags: number): string[] {
  const known = Object.entries(mapFlags).filter(([, bit]) => (flags & bit) !== 0);
  const rest = known.reduce((left, [, bit]) => left & ~bit, flags);
  return [...known.map(([name]) => name), ...(rest === 0 ? [] : [`0x${rest.toString(16)}`])];
}

export interface ExpectedMap {
  readonly type: 'hash' | 'lpm_trie' | 'array' | 'percpu_array' | 'ringbuf';
  /** Bytes. */
  readonly key: number;
  readonly value: number;
  /** null: as `attach` was told, or as maps.h says. */
  readonly entries: number | null;
  readonly flags: readonly string[];
  /** 0660 and the service's; else 0640 and root's, with the service's group. */
  readonly writable: boolean;
}

const v4 = layout.cidr_v4.size;
const v6 = layout.cidr_v6.size;
const word = 4;

function map(type: ExpectedMap['type'], key: number, value: number, more: Partial<ExpectedMap> = {}): ExpectedMap {
  return { type, key, value, entries: null, flags: [], writable: false, ...more };
}

const lazily = ['no_prealloc'];
const block = layout.block.size;
const allow = layout.allow.size;

/** The maps of a set, as bpf/maps.h declares them. */
export const expectedMaps: Readonly<Record<string, ExpectedMap>> = {
  blocked_v4: map('hash', 4, block, { writable: true }),
  blocked_v6: map('hash', 16, block, { writable: true }),
  blocked_cidr_v4: map('lpm_trie', v4, block, { writable: true, flags: lazily }),
  blocked_cidr_v6: map('lpm_trie', v6, block, { writable: true, flags: lazily }),
  allowed_cidr_v4: map('lpm_trie', v4, allow, { flags: lazily }),
  allowed_cidr_v6: map('lpm_trie', v6, allow, { flags: lazily }),
  scopes: map('array', word, layout.scope.size, { writable: true, entries: MAX_SCOPES }),
  hints: map('array', word, layout.hints.size, { writable: true, entries: 1, flags: ['mmapable'] }),
  settings: map('array', word, layout.settings.size, { entries: 1 }),
  counters: map('percpu_array', word, layout.total.size, { entries: MAX_SLOTS * count_kind.COUNT_KINDS }),
  interfaces: map('array', word, layout.interface_slot.size, { entries: MAX_SLOTS }),
  drop_samples: map('ringbuf', 0, 0, { writable: true }),
};

/** The programs of a set, both the service's to run. */
export const expectedPrograms: Readonly<Record<string, string>> = { change: 'syscall', change_cidr: 'socket_filter' };

/** A directory, or a symbolic link: `lstat`. */
export interface Place {
  readonly path: string;
  readonly kind: 'directory' | 'link' | 'file';
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, those above 0777 included. */
  readonly mode: number;
}

/** null: it is not there. Throws `not_permitted`. */
export function readPlace(path: string): Place | null {
  let status: Stats | undefined;
  try {
    status = lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw notReachable(path, error);
  }
  if (status === undefined) return null;
  const kind = status.isDirectory() ? 'directory' : status.isSymbolicLink() ? 'link' : 'file';
  return { path, kind, uid: status.uid, gid: status.gid, mode: status.mode & 0o7777 };
}

export interface Pin extends Place {
  readonly name: string;
  readonly what:
    | { readonly kind: 'map'; readonly info: MapInfo }
    | { readonly kind: 'program'; readonly info: ProgramInfo }
    /** A pin of another kind, or no pin. */
    | { readonly kind: 'other' }
    /** This user may not open it. */
    | { readonly kind: 'closed' };
}

export interface SetReading {
  readonly paths: PinPaths;
  /** What `current` points to, as it says it. */
  readonly target: string;
  readonly dir: string;
  /** By name. Names with a dot are the kernel's own (maps.debug). */
  readonly pins: readonly Pin[];
}

/** Throws `pin_dir_missing`, `not_permitted`, or `layout_mismatch` when `current` points to no directory. */
export function readSet(pinDir: string): SetReading {
  const paths = requirePins(pinDir);
  const target = readlinkSync(paths.current);
  const dir = join(paths.dir, target);
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') throw notReachable(dir, error);
    throw new FalcodropError(
      'layout_mismatch',
      `${paths.current} points to ${JSON.stringify(target)}, which is no directory there`,
      'begin anew: falcodrop detach --all --purge, then attach',
      error,
    );
  }
  const pins = names
    .filter((name) => !name.includes('.'))
    .toSorted()
    .flatMap((name) => readPin(dir, name) ?? []);
  if (pins.length > 0 && pins.every(({ what }) => what.kind === 'closed')) throw notReachable(dir, undefined);
  return { paths, target, dir, pins };
}

function readPin(dir: string, name: string): Pin | null {
  const path = join(dir, name);
  const place = readPlace(path);
  if (place === null) return null; // gone meanwhile
  return { ...place, name, what: place.kind === 'file' ? whatIs(path) : { kind: 'other' } };
}

function whatIs(path: string): Pin['what'] {
  const ask = <T>(question: () => T): T | 'closed' | null => {
    try {
      return question();
    } catch (error) {
      if (!isNativeError(error)) throw error;
      return error.code === 'EACCES' || error.code === 'EPERM' ? 'closed' : null;
    }
  };
  const info = ask(() => withMap(path, (opened) => opened.info));
  if (info === 'closed') return { kind: 'closed' };
  if (info !== null) return { kind: 'map', info };
  const program = ask(() => {
    const opened = native().openProgram(path);
    try {
      return opened.info;
    } finally {
      opened.close();
    }
  });
  if (program === 'closed') return { kind: 'closed' };
  return program === null ? { kind: 'other' } : { kind: 'program', info: program };
}

/** Opens it for reading alone, for the length of `work`. */
export function withMap<T>(path: string, work: (opened: BpfMap) => T): T {
  const opened = native().openMap(path, { readOnly: true });
  try {
    return work(opened);
  } finally {
    opened.close();
  }
}

/** Views into buffers that are reused: copy what is kept. */
export interface RawEntry {
  readonly key: Buffer;
  readonly value: Buffer;
}

const batch = 4096;
const batchLimit = 1 << 20;

/** True for maps whose elements are told by LOOKUP_BATCH in one go. */
const isBatched = ({ type }: MapInfo): boolean => type === 1 || type === 11;

/** Whether it has elements that user space may ask for one after the other. */
export const isIterable = ({ type, keySize }: MapInfo): boolean => keySize > 0 && type !== 27;

/**
 * Every entry; of a map that changes meanwhile some may come twice or not at all, and never more than twice its size. Values
 * of per-CPU maps are those of all CPUs.
 */
export function* rawEntries(opened: BpfMap): Generator<RawEntry> {
  const { info } = opened;
  let left = 2 * info.maxEntries;
  if (isBatched(info)) {
    let limit = batch;
    let cursor: Buffer | null = null;
    for (;;) {
      let slice: ReturnType<BpfMap['lookupBatch']>;
      try {
        slice = opened.lookupBatch(cursor, limit);
      } catch (error) {
        if (!isNativeError(error) || error.code !== 'ENOSPC' || limit >= batchLimit) throw error;
        limit *= 4;
        continue;
      }
      for (let i = 0; i < slice.count; i++) {
        if (left-- <= 0) return;
        yield {
          key: slice.keys.subarray(i * info.keySize, (i + 1) * info.keySize),
          value: slice.values.subarray(i * info.valueSize, (i + 1) * info.valueSize),
        };
      }
      cursor = slice.cursor;
      if (cursor === null) return;
    }
  }
  for (let key = opened.nextKey(null); key !== null && left-- > 0; key = opened.nextKey(key)) {
    const value = opened.lookup(key);
    if (value !== null) yield { key, value };
  }
}

/** What an entry has that falcodrop writes into none. */
export type Oddity =
  /** The value's prefix length is not the key's: the XDP program goes on from it, and passes over wider prefixes. */
  | 'prefix_length'
  /** A prefix longer than an address: no packet meets it. */
  | 'too_long'
  /** A whole address in a trie: it belongs into the hash. */
  | 'whole_address'
  | 'host_bits'
  /** An IPv4 address as IPv6 (::ffff:0:0/96): packets with it carry an IPv4 header. */
  | 'v4_mapped'
  /** None, or bits that are no owner's. */
  | 'owners'
  | 'action'
  /** A row of scopes that is not there. */
  | 'scope'
  | 'reserved';

const everyOwner = Object.values(block_owner).reduce((all, bit) => all | bit, 0);

/** Of an entry of a block map. */
export function blockOddities(name: BlockMapName, { key, value }: RawEntry): Oddity[] {
  const { members } = layout.block;
  const { length, oddities } = keyOddities(name.includes('cidr'), name.endsWith('v4') ? 4 : 6, key);
  const owners = value.readUInt8(members.owners[0]);
  if (value.readUInt8(members.prefix_length[0]) !== length) oddities.push('prefix_length');
  if (owners === 0 || (owners & ~everyOwner) !== 0) oddities.push('owners');
  if (value.readUInt8(members.action[0]) !== 0) oddities.push('action');
  if (value.readUInt16LE(members.scope[0]) >= MAX_SCOPES) oddities.push('scope');
  if (!isZero(value, members.reserved)) oddities.push('reserved');
  return oddities;
}

/** Of an entry of an allow trie. A whole address is as good as a prefix there. */
export function allowOddities(family: 4 | 6, { key, value }: RawEntry): Oddity[] {
  const { members } = layout.allow;
  const { length, oddities } = keyOddities(true, family, key);
  const kept = oddities.filter((oddity) => oddity !== 'whole_address');
  if (value.readUInt8(members.prefix_length[0]) !== length) kept.push('prefix_length');
  if (!isZero(value, members.reserved)) kept.push('reserved');
  return kept;
}

function keyOddities(trie: boolean, family: 4 | 6, key: Buffer): { readonly length: number; oddities: Oddity[] } {
  const bits = family === 4 ? 32 : 128;
  const { bytes, length } = trie ? splitTrieKey(key) : { bytes: key, length: bits };
  const oddities: Oddity[] = [];
  if (length > bits) oddities.push('too_long');
  else if (trie && length === bits) oddities.push('whole_address');
  if (hasHostBits(bytes, length)) oddities.push('host_bits');
  if (
    family === 6 &&
    length >= 96 &&
    bytes.subarray(0, 10).every((byte) => byte === 0) &&
    bytes.readUInt16BE(10) === 0xffff
  )
    oddities.push('v4_mapped');
  return { length, oddities };
}

function hasHostBits(bytes: Buffer, length: number): boolean {
  return bytes.some((byte, at) => (byte & (0xff >> Math.min(8, Math.max(0, length - 8 * at)))) !== 0);
}

function isZero(bytes: Buffer, [offset, size]: readonly [number, number]): boolean {
  return bytes.subarray(offset, offset + size).every((byte) => byte === 0);
}

/** As it lies there: host bits stay, an IPv4-mapped address too. */
export function rawTarget(trie: boolean, family: 4 | 6, key: Buffer): Prefix {
  const bits = family === 4 ? 32 : 128;
  const { bytes, length } = trie ? splitTrieKey(key) : { bytes: key, length: bits };
  return { address: { family, bytes: Uint8Array.from(bytes) }, length: Math.min(bits, length) };
}

/** A pinned link of an interface; its device is gone where `ifindex` is 0. */
export interface LinkReading extends Place {
  /** As the pin's name says it. */
  readonly ifindex: number;
  /** null: this user may not open it. */
  readonly link: { readonly ifindex: number; readonly program: ProgramInfo | null } | null;
}

/** `foreign`: names in the directory that are none of ours. Throws `not_permitted`. */
export function readLinks(paths: PinPaths): {
  readonly links: readonly LinkReading[];
  readonly foreign: readonly string[];
} {
  let names: string[];
  try {
    names = readdirSync(paths.links).toSorted();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { links: [], foreign: [] };
    throw notReachable(paths.links, error);
  }
  const links: LinkReading[] = [];
  const foreign: string[] = [];
  for (const name of names) {
    const path = join(paths.links, name);
    const digits = /^if([1-9]\d{0,9})$/.exec(name)?.[1];
    const place = readPlace(path);
    if (place === null) continue;
    const link = digits === undefined ? 'other' : readLink(path);
    if (digits === undefined || link === 'other') foreign.push(name);
    else links.push({ ...place, ifindex: Number(digits), link });
  }
  return { links, foreign };
}

function readLink(path: string): LinkReading['link'] | 'other' {
  try {
    const opened = native().openLink(path);
    try {
      const { ifindex, programId } = opened.info;
      return { ifindex, program: programOf(programId) };
    } finally {
      opened.close();
    }
  } catch (error) {
    if (!isNativeError(error)) throw error;
    return error.code === 'EACCES' || error.code === 'EPERM' ? null : 'other';
  }
}

function programOf(id: number): ProgramInfo | null {
  try {
    return native().programInfoById(id);
  } catch (error) {
    if (isNativeError(error)) return null;
    throw error;
  }
}

/** interfaces[slot] = ifindex, 0 = free. */
export function readSlots(opened: BpfMap): number[] {
  return Array.from({ length: MAX_SLOTS }, (_, slot) => opened.lookup(u32(slot))?.readUInt32LE(0) ?? 0);
}
