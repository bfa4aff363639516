/** The entries of each map in words; how bytes are laid out is docs/map-abi.md. */
import { join } from 'node:path';
import { formatPorts } from '../address/port.ts';
import { formatPrefix } from '../address/prefix.ts';
import { entryOf } from '../blocklist/entry.ts';
import { interfaceNames } from '../daemon/drop-sample.ts';
import { monotonicNs, secondsLeft } from '../kernel/clock.ts';
import { type CountKind, countKinds, type Total } from '../kernel/counters.ts';
import {
  allowOddities,
  blockOddities,
  expectedMaps,
  type RawEntry,
  rawEntries,
  rawTarget,
  readSlots,
  type SetReading,
  withMap,
} from '../kernel/inspect.ts';
import {
  count_kind,
  decodeBlock,
  decodeScope,
  decodeSettings,
  hint_prefixes,
  layout,
  MAX_SLOTS,
} from '../kernel/layout.ts';
import { modeNow } from '../kernel/mode.ts';
import { isNativeError } from '../kernel/native.ts';
import { type BlockMapName, blockMapNames } from '../kernel/set.ts';
import type { Call } from './call.ts';
import { amount } from './output/amount.ts';
import { endAt, entryColumns, entryObject, entryRow, shortEnd, wholeSeconds } from './output/entry.ts';
import type { Column, Row } from './output/table.ts';

/** One entry in both forms. */
export interface Line {
  /** null: it is told by the row before. */
  readonly object: object | null;
  readonly row: Row;
}

export interface Decoder {
  readonly columns: readonly Column[];
  /** May be asked for more than once. */
  readonly lines: (entries: Iterable<RawEntry>) => Iterable<Line>;
}

/** Keys and values as they lie there. */
export const decodeBytes: Decoder = {
  columns: [{ title: 'KEY' }, { title: 'VALUE' }],
  *lines(entries) {
    for (const { key, value } of entries) {
      const [keyText, valueText] = [key.toString('hex'), value.toString('hex')];
      yield { object: { key: keyText, value: valueText }, row: [inBytes(keyText), inBytes(valueText)] };
    }
  },
};

const inBytes = (hex: string): string => hex.replace(/..(?=.)/g, '$& ');

/** Of a map of ours whose sizes and format are this version's. */
export function decoderOf(call: Call, set: SetReading, name: string): Decoder {
  const block = blockMapNames.find((each) => each === name);
  if (block !== undefined) return blocks(call, set, block);
  switch (name) {
    case 'allowed_cidr_v4':
      return allows(call, 4);
    case 'allowed_cidr_v6':
      return allows(call, 6);
    case 'scopes':
      return scopes;
    case 'hints':
      return hints;
    case 'settings':
      return settings(call);
    case 'counters':
      return counters(set);
    case 'interfaces':
      return interfaces();
    default:
      return decodeBytes;
  }
}

const foreignColumn: Column = { title: 'FOREIGN', colour: () => 'red' };

const notesColumn: Column = { title: 'NOTES', colour: (cell) => (cell.includes('foreign') ? 'red' : null) };

function blocks(call: Call, set: SetReading, name: BlockMapName): Decoder {
  const nowMs = call.clock.now();
  const now = monotonicNs() + skewOf(set);
  const ports = portsOf(set);
  const family = name.endsWith('v4') ? 4 : 6;
  return {
    columns: [...entryColumns(nowMs), notesColumn],
    *lines(entries) {
      for (const entry of entries) {
        const value = decodeBlock(entry.value);
        const shown = entryOf(rawTarget(name.includes('cidr'), family, entry.key), value, now);
        const foreign = blockOddities(name, entry);
        const { scope, action } = value;
        const limited = scope === 0 ? '' : (ports.get(scope) ?? '');
        const told = entryObject(shown, nowMs);
        const notes = [
          ...(scope === 0 ? [] : [limited === '' ? `empty row ${scope}` : limited]),
          ...(foreign.length === 0 ? [] : [`foreign: ${foreign.join(',')}`]),
        ];
        yield {
          object: { ...told, scope, ports: limited === '' ? [] : limited.split(','), action, foreign },
          row: [...entryRow(shown, nowMs), notes.join(' ')],
        };
      }
    },
  };
}

function allows(call: Call, family: 4 | 6): Decoder {
  const nowMs = call.clock.now();
  const now = monotonicNs();
  const { until } = layout.allow.members;
  return {
    columns: [{ title: 'PREFIX' }, { title: 'ENDS' }, foreignColumn],
    *lines(entries) {
      for (const entry of entries) {
        const prefix = formatPrefix(rawTarget(true, family, entry.key));
        const seconds = secondsLeft(entry.value.readBigUInt64LE(until[0]), now);
        const foreign = allowOddities(family, entry);
        yield {
          object: {
            prefix,
            state: seconds === 0 ? 'ended' : 'live',
            ends_at: endAt(seconds, nowMs),
            ends_in_seconds: wholeSeconds(seconds),
            foreign,
          },
          row: [prefix, shortEnd(seconds, nowMs), foreign.join(',')],
        };
      }
    },
  };
}

/** Rows that limit nothing are left out. */
const scopes: Decoder = {
  columns: [{ title: 'ROW', right: true }, { title: 'PORTS' }, foreignColumn],
  *lines(entries) {
    for (const { key, value } of entries) {
      if (value.every((byte) => byte === 0)) continue;
      const row = key.readUInt32LE(0);
      const ports = formatPorts(decodeScope(value));
      const foreign = scopeOddities(value);
      yield {
        object: { row, ports: ports === '' ? [] : ports.split(','), foreign },
        row: [`${row}`, ports, foreign.join(',')],
      };
    }
  },
};

/** `reserved`: a byte that is none's; `after_end`: ports behind the one that ends the list. */
function scopeOddities(value: Buffer): string[] {
  const { size, members } = layout.port;
  const found = new Set<string>();
  let hasEnded = false;
  for (let at = 0; at + size <= value.length; at += size) {
    if (value.readUInt8(at + members.reserved[0]) !== 0) found.add('reserved');
    const isEmpty = value.readUInt8(at + members.protocol[0]) === 0;
    const number = value.readUInt16LE(at + members.number[0]);
    if ((hasEnded && !isEmpty) || (isEmpty && number !== 0)) found.add('after_end');
    hasEnded ||= isEmpty;
  }
  return [...found];
}

const hints: Decoder = {
  columns: [{ title: 'HINT' }, { title: 'VALUE' }],
  *lines(entries) {
    const { members } = layout.hints;
    for (const { value } of entries) {
      const skew = value.readBigUInt64LE(members.skew_ns[0]);
      const bits = value.readUInt32LE(members.prefixes[0]);
      const prefixes = [
        ...((bits & hint_prefixes.PREFIXES_V4) === 0 ? [] : ['ipv4']),
        ...((bits & hint_prefixes.PREFIXES_V6) === 0 ? [] : ['ipv6']),
      ];
      const known = hint_prefixes.PREFIXES_V4 | hint_prefixes.PREFIXES_V6;
      const foreign = (bits & ~known) !== 0 || value.readUInt32LE(members.reserved[0]) !== 0 ? ['reserved'] : [];
      const seconds = Number(BigInt.asIntN(64, skew)) / 1e9;
      yield {
        object: { prefixes, skew_seconds: seconds, foreign },
        row: ['prefixes', prefixes.length === 0 ? 'none' : `there are some: ${prefixes.join(', ')}`],
      };
      yield { object: null, row: ['skew', `${seconds} s, the time spent in suspend`] };
    }
  },
};

function settings(call: Call): Decoder {
  const nowMs = call.clock.now();
  return {
    columns: [{ title: 'SETTING' }, { title: 'VALUE' }],
    *lines(entries) {
      for (const { value } of entries) {
        const read = decodeSettings(value);
        const nameOf = (mode: number): string => modeNow({ ...read, mode, deadline: 0n }).mode;
        const seconds = read.deadline === 0n ? null : secondsLeft(read.deadline, monotonicNs());
        const neverDrop = formatPorts(read.neverDrop);
        const deadline = read.deadline === 0n ? 'none' : seconds === 0 ? 'passed' : shortEnd(seconds, nowMs);
        const object = {
          format: read.format,
          mode: nameOf(read.mode),
          deadline_at: endAt(seconds, nowMs),
          deadline_in_seconds: wholeSeconds(seconds),
          mode_after: nameOf(read.modeAfter),
          sampling: read.sampling,
          never_drop: neverDrop === '' ? [] : neverDrop.split(','),
        };
        yield { object, row: ['format', `${read.format}`] };
        const rest = [
          ['mode', object.mode],
          ['deadline', deadline],
          ['mode after it', object.mode_after],
          ['sampling', read.sampling === 0 ? 'off' : 'an entry’s 1st, 2nd, 4th, 8th … packet'],
          ['never dropped', neverDrop === '' ? 'no port' : neverDrop],
        ];
        for (const row of rest) yield { object: null, row };
      }
    },
  };
}

/** Sums over CPUs, first of all slots, then of each that counts or has counted. */
function counters(set: SetReading): Decoder {
  const nameOf = interfaceNames();
  const slots = tryMap(set, 'interfaces', readSlots) ?? [];
  return {
    columns: [
      { title: 'SLOT' },
      { title: 'INTERFACE' },
      { title: 'KIND' },
      { title: 'PACKETS', right: true },
      { title: 'BYTES', right: true },
    ],
    *lines(entries) {
      const sums = Array.from({ length: MAX_SLOTS + 1 }, () => new Map<CountKind, Total>());
      for (const { key, value } of entries) {
        const row = key.readUInt32LE(0);
        const kind = countKinds[row % count_kind.COUNT_KINDS];
        if (kind === undefined) continue;
        const total = sumOf(value);
        for (const place of [Math.floor(row / count_kind.COUNT_KINDS), MAX_SLOTS]) {
          const sum = sums[place]?.get(kind) ?? { packets: 0, bytes: 0 };
          sums[place]?.set(kind, { packets: sum.packets + total.packets, bytes: sum.bytes + total.bytes });
        }
      }
      for (const slot of [MAX_SLOTS, ...sums.keys()].slice(0, -1)) {
        const sum = sums[slot] ?? new Map<CountKind, Total>();
        const met = countKinds.filter((kind) => (sum.get(kind)?.packets ?? 0) > 0);
        const ifindex = slots[slot] ?? 0;
        const isAll = slot === MAX_SLOTS;
        const name = ifindex === 0 ? null : (nameOf(ifindex) ?? `if${ifindex}`);
        if (!isAll && ifindex === 0 && met.length === 0) continue;
        for (const kind of countKinds) {
          const { packets, bytes } = sum.get(kind) ?? { packets: 0, bytes: 0 };
          if (packets === 0) continue;
          yield {
            object: { slot: isAll ? null : slot, interface: name, kind: kind.toLowerCase(), packets, bytes },
            row: [isAll ? 'all' : `${slot}`, name ?? '-', kind.toLowerCase(), amount(packets), amount(bytes)],
          };
        }
      }
    },
  };
}

function sumOf(values: Buffer): Total {
  const { size, members } = layout.total;
  let packets = 0n;
  let bytes = 0n;
  for (let at = 0; at + size <= values.length; at += size) {
    packets += values.readBigUInt64LE(at + members.packets[0]);
    bytes += values.readBigUInt64LE(at + members.bytes[0]);
  }
  return { packets: Number(packets), bytes: Number(bytes) };
}

/** Free slots are left out. */
function interfaces(): Decoder {
  const nameOf = interfaceNames();
  return {
    columns: [{ title: 'SLOT', right: true }, { title: 'IFINDEX', right: true }, { title: 'INTERFACE' }],
    *lines(entries) {
      for (const { key, value } of entries) {
        const ifindex = value.readUInt32LE(0);
        if (ifindex === 0) continue;
        const slot = key.readUInt32LE(0);
        const name = nameOf(ifindex);
        yield { object: { slot, ifindex, interface: name }, row: [`${slot}`, `${ifindex}`, name ?? 'not here'] };
      }
    },
  };
}

/** Null where it is not there, not ours to open, or of another size. */
export function tryMap<T>(set: SetReading, name: string, work: Parameters<typeof withMap<T>>[1]): T | null {
  const pin = set.pins.find((each) => each.name === name);
  if (pin?.what.kind !== 'map') return null;
  const { keySize, valueSize } = pin.what.info;
  if (keySize !== expectedMaps[name]?.key || valueSize !== expectedMaps[name]?.value) return null;
  try {
    return withMap(join(set.dir, name), work);
  } catch (error) {
    if (isNativeError(error)) return null;
    throw error;
  }
}

/** 0 where it can not be read. */
export function skewOf(set: SetReading): bigint {
  const [offset] = layout.hints.members.skew_ns;
  return tryMap(set, 'hints', (opened) => [...rawEntries(opened)][0]?.value.readBigUInt64LE(offset)) ?? 0n;
}

/** Of rows that limit anything. */
export function portsOf(set: SetReading): ReadonlyMap<number, string> {
  const found = tryMap(set, 'scopes', (opened) =>
    [...rawEntries(opened)].map(({ key, value }) => [key.readUInt32LE(0), formatPorts(decodeScope(value))] as const),
  );
  return new Map((found ?? []).filter(([, ports]) => ports !== ''));
}
