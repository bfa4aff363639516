/**
 * The loaded data plane without an interface: maps, change programs and one instance of the XDP program, driven by
 * BPF_PROG_TEST_RUN. Nothing is pinned; what is not closed goes with the process.
 */
import type { Ports } from '../../src/address/port.ts';
import { isHost, type Prefix, parsePrefix } from '../../src/address/prefix.ts';
import { possibleCpus, u32 } from '../../src/kernel/attach.ts';
import { monotonicNs } from '../../src/kernel/clock.ts';
import type { CountKind, Total } from '../../src/kernel/counters.ts';
import {
  type BlockValue,
  count_kind,
  decodeBlock,
  encodeBlock,
  encodeChange,
  encodeScope,
  encodeSettings,
  FALCODROP_FORMAT,
  forEver,
  hint_prefixes,
  keyOf,
  layout,
  mode,
  never,
  type Settings,
  trieKey,
} from '../../src/kernel/layout.ts';
import { type BpfMap, type BpfProgram, type MappedArray, native } from '../../src/kernel/native.ts';
import { loadInstance, loadSet, type Sizes } from '../../src/kernel/object.ts';
import { mapNameOf } from '../../src/kernel/set.ts';

export const hour = 3_600_000_000_000n;

/** Ends far from now, so that no test depends on when it runs. */
export const soon = (): bigint => monotonicNs() + hour;
/** Ended an hour ago; 1, the earliest end, on a machine that is up for less. */
export const past = (): bigint => {
  const now = monotonicNs();
  return now > hour ? now - hour : 1n;
};

export type Verdict = 'drop' | 'pass';
export type Counts = Partial<Record<CountKind, Total>>;

export interface Sample {
  readonly at: bigint;
  readonly packets: bigint;
  readonly ifindex: number;
  readonly length: number;
  readonly family: number;
  readonly protocol: number;
  readonly kind: CountKind;
  readonly prefixLength: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly source: string;
  readonly destination: string;
}

export interface Plane {
  readonly hints: MappedArray;
  map(name: string): BpfMap;
  /** One packet: the verdict, and every counter of this instance's slot that moved. */
  run(packet: Uint8Array): { readonly verdict: Verdict; readonly counts: Counts };
  /** Puts an entry straight into its map, overwriting, and sets the family's hint unless told otherwise. */
  put(target: string | Prefix, value?: Partial<BlockValue>, options?: { hint?: boolean; trie?: boolean }): void;
  allow(target: string | Prefix, until?: bigint): void;
  entry(target: string | Prefix, options?: { trie?: boolean }): BlockValue | null;
  configure(settings: Partial<Settings>): void;
  /** Writes a row of `scopes`. */
  scope(row: number, ports: Ports): void;
  skew(ns: bigint): void;
  change(operation: number, target: string | Prefix, value: Partial<BlockValue>, options?: { trie?: boolean }): number;
  /** Arguments as they are, for-ever ends, to the program of that name. */
  changeRaw(program: 'change' | 'change_cidr', target: Prefix, operation: number): number;
  readonly programs: { readonly change: BpfProgram; readonly changeCidr: BpfProgram };
  /** Records since the last call. */
  samples(): Sample[];
  /** No entries, no allows, no hints, no samples; mode enforce, sampling off. */
  clear(): void;
  close(): void;
}

const blockDefaults = { action: 0, owners: 1, scope: 0, packets: 0n, bytes: 0n, lastSeen: 0n };
const settingsDefaults: Settings = {
  format: FALCODROP_FORMAT,
  mode: mode.MODE_ENFORCE,
  deadline: 0n,
  modeAfter: mode.MODE_ENFORCE,
  sampling: 0,
  neverDrop: [],
};

const kinds = (Object.keys(count_kind) as (keyof typeof count_kind)[]).filter(
  (kind): kind is CountKind => kind !== 'COUNT_KINDS',
);
export const kindOf = (value: number): CountKind => kinds.find((kind) => count_kind[kind] === value) ?? 'PASS_CLEAN';

const XDP_DROP = 1;
const XDP_PASS = 2;

export function openPlane({ sizes = {}, slot = 0 }: { sizes?: Partial<Sizes>; slot?: number } = {}): Plane {
  const object = loadSet({ addresses: 4096, prefixes: 4096, ...sizes });
  const maps = new Map<string, BpfMap>();
  const map = (name: string): BpfMap => {
    let open = maps.get(name);
    if (open === undefined) {
      open = object.map(name);
      maps.set(name, open);
    }
    return open;
  };
  const program: BpfProgram = loadInstance(map, slot);
  const changes = { hash: object.program('change'), trie: object.program('change_cidr') };
  const hints = map('hints').mmap();
  const received: Sample[] = [];
  const ring = native().ringBuffer(map('drop_samples'), (record) => {
    received.push(decodeSample(record));
  });
  const prefix = (target: string | Prefix): Prefix => (typeof target === 'string' ? parsePrefix(target) : target);
  const place = (target: Prefix, trie: boolean): [BpfMap, Uint8Array] =>
    trie && isHost(target)
      ? [map(`blocked_cidr_v${target.address.family}`), trieKey(target)]
      : [map(mapNameOf(target)), keyOf(target)];

  const readCounts = (): Total[] =>
    kinds.map((kind) => {
      const values = map('counters').lookup(u32(slot * count_kind.COUNT_KINDS + count_kind[kind]));
      let packets = 0n;
      let bytes = 0n;
      for (let cpu = 0; values !== null && cpu < possibleCpus(); cpu++) {
        packets += values.readBigUInt64LE(cpu * layout.total.size + layout.total.members.packets[0]);
        bytes += values.readBigUInt64LE(cpu * layout.total.size + layout.total.members.bytes[0]);
      }
      return { packets: Number(packets), bytes: Number(bytes) };
    });
  let counted = readCounts();
  const usedRows = new Set<number>();

  const plane: Plane = {
    hints,
    map,
    run(packet) {
      const { returnValue } = program.testRun({ data: packet });
      if (returnValue !== XDP_DROP && returnValue !== XDP_PASS) throw new Error(`XDP action ${returnValue}`);
      const after = readCounts();
      const counts: Counts = {};
      for (const [index, kind] of kinds.entries()) {
        const [before, now] = [counted[index], after[index]];
        if (before === undefined || now === undefined || now.packets === before.packets) continue;
        counts[kind] = { packets: now.packets - before.packets, bytes: now.bytes - before.bytes };
      }
      counted = after;
      return { verdict: returnValue === XDP_DROP ? 'drop' : 'pass', counts };
    },
    put(target, value = {}, { hint = true, trie = false } = {}) {
      const at = prefix(target);
      const [where, key] = place(at, trie);
      where.update(
        key,
        encodeBlock({ ...blockDefaults, dropUntil: never, countUntil: never, prefixLength: at.length, ...value }),
      );
      if (hint && (trie || !isHost(at))) {
        hints.or32(
          layout.hints.members.prefixes[0],
          at.address.family === 4 ? hint_prefixes.PREFIXES_V4 : hint_prefixes.PREFIXES_V6,
        );
      }
    },
    allow(target, until = forEver) {
      const at = prefix(target);
      const value = Buffer.alloc(layout.allow.size);
      value.writeBigUInt64LE(until, layout.allow.members.until[0]);
      value.writeUInt8(at.length, layout.allow.members.prefix_length[0]);
      map(`allowed_cidr_v${at.address.family}`).update(trieKey(at), value);
    },
    entry(target, { trie = false } = {}) {
      const [where, key] = place(prefix(target), trie);
      const value = where.lookup(key);
      return value === null ? null : decodeBlock(value);
    },
    configure(settings) {
      map('settings').update(u32(0), encodeSettings({ ...settingsDefaults, ...settings }));
    },
    scope(row, ports) {
      usedRows.add(row);
      map('scopes').update(u32(row), encodeScope(ports));
    },
    skew(ns) {
      hints.store64(layout.hints.members.skew_ns[0], BigInt.asUintN(64, ns));
    },
    change(operation, target, value, { trie = false } = {}) {
      const at = prefix(target);
      const args = encodeChange(operation, at, { ...blockDefaults, dropUntil: never, countUntil: never, ...value });
      return isHost(at) && !trie
        ? changes.hash.testRun({ context: args }).returnValue
        : changes.trie.testRun({ data: Buffer.concat([Buffer.alloc(14), args]) }).returnValue;
    },
    changeRaw(name, target, operation) {
      const args = encodeChange(operation, target, { ...blockDefaults, dropUntil: forEver, countUntil: forEver });
      return name === 'change'
        ? changes.hash.testRun({ context: args }).returnValue
        : changes.trie.testRun({ data: Buffer.concat([Buffer.alloc(14), args]) }).returnValue;
    },
    programs: { change: changes.hash, changeCidr: changes.trie },
    samples() {
      ring.consume();
      return received.splice(0);
    },
    clear() {
      for (const name of ['blocked_v4', 'blocked_v6', 'blocked_cidr_v4', 'blocked_cidr_v6']) empty(map(name));
      for (const name of ['allowed_cidr_v4', 'allowed_cidr_v6']) empty(map(name));
      hints.store64(0, 0n);
      hints.store64(8, 0n);
      for (const row of usedRows) map('scopes').update(u32(row), encodeScope([]));
      usedRows.clear();
      plane.configure({});
      plane.samples();
      counted = readCounts();
    },
    close() {
      ring.close();
      hints.close();
      program.close();
      changes.hash.close();
      changes.trie.close();
      for (const open of maps.values()) open.close();
      object.close();
    },
  };
  plane.clear();
  return plane;
}

function empty(map: BpfMap): void {
  for (let key = map.nextKey(null); key !== null; key = map.nextKey(null)) map.delete(key);
}

const sample = layout.sample.members;

function decodeSample(record: Buffer): Sample {
  const family = record.readUInt8(sample.family[0]);
  const address = (offset: number) => record.subarray(offset, offset + (family === 4 ? 4 : 16)).toString('hex');
  return {
    at: record.readBigUInt64LE(sample.at[0]),
    packets: record.readBigUInt64LE(sample.packets[0]),
    ifindex: record.readUInt32LE(sample.ifindex[0]),
    length: record.readUInt32LE(sample.length[0]),
    family,
    protocol: record.readUInt8(sample.protocol[0]),
    kind: kindOf(record.readUInt8(sample.kind[0])),
    prefixLength: record.readUInt8(sample.prefix_length[0]),
    sourcePort: record.readUInt16LE(sample.source_port[0]),
    destinationPort: record.readUInt16LE(sample.destination_port[0]),
    source: address(sample.source[0]),
    destination: address(sample.destination[0]),
  };
}
