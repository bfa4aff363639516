/** `falcodrop map list`: every pin of the set in force. */
import {
  expectedMaps,
  expectedPrograms,
  isIterable,
  mapFlagNames,
  mapTypeName,
  type Pin,
  programTypeName,
  rawEntries,
  readSet,
  withMap,
} from '../kernel/inspect.ts';
import { isNativeError } from '../kernel/native.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { accountNames } from './account.ts';
import type { Call } from './call.ts';
import { amount } from './output/amount.ts';
import { table } from './output/table.ts';

interface Listed {
  readonly name: string;
  /** `closed`: this user may not open it. */
  readonly kind: Pin['what']['kind'];
  readonly type: string | null;
  readonly key_size: number | null;
  readonly value_size: number | null;
  /** Those that are there; null where they are not counted, in a ring for example. */
  readonly entries: number | null;
  readonly max_entries: number | null;
  readonly uid: number;
  readonly gid: number;
  readonly user: string;
  readonly group: string;
  /** Octal, as chmod takes it. */
  readonly mode: string;
  readonly flags: readonly string[];
  /** Nobody can change it any more. */
  readonly frozen: boolean;
  /** Another tool's. */
  readonly foreign: boolean;
}

export function listMaps({ answer, environment }: Call): void {
  const { dir, pins } = readSet(pinDirOf(environment));
  const names = accountNames();
  const listed = pins.map((pin) => describe(pin, names));
  if (answer.json) {
    for (const one of listed) answer.object(one);
    return;
  }
  const columns = [
    { title: 'NAME' },
    { title: 'TYPE' },
    { title: 'KEY', right: true },
    { title: 'VALUE', right: true },
    { title: 'ENTRIES', right: true },
    { title: 'OWNER' },
    { title: 'MODE' },
    { title: 'NOTES', colour: (cell: string) => (/foreign|frozen|closed/.test(cell) ? ('red' as const) : null) },
  ];
  const rows = () =>
    listed.map((one) => [
      one.name,
      shortTypes[one.type ?? ''] ?? one.type ?? '-',
      sizeText(one.key_size),
      sizeText(one.value_size),
      entriesText(one),
      one.user === one.group ? one.user : `${one.user}:${one.group}`,
      one.mode,
      notesOf(one).join(' '),
    ]);
  for (const line of table(columns, rows, answer.colour)) answer.line(line.trimEnd());
  answer.note(`the set is ${dir}`);
}

/** So that a line fits 80 columns. */
const shortTypes: Readonly<Record<string, string>> = { socket_filter: 'socket', percpu_array: 'percpu' };

const sizeText = (bytes: number | null): string => (bytes === null ? '-' : `${bytes}`);

function entriesText({ entries, max_entries }: Listed): string {
  if (max_entries === null) return '-';
  return `${entries === null ? '' : `${amount(entries)}/`}${amount(max_entries)}`;
}

function notesOf({ kind, flags, frozen, foreign }: Listed): string[] {
  return [
    ...(foreign ? ['foreign'] : []),
    ...(frozen ? ['frozen'] : []),
    ...(kind === 'closed' ? ['closed'] : []),
    // What every trie must have says nothing.
    ...flags.filter((flag) => flag !== 'no_prealloc'),
  ];
}

function describe(pin: Pin, names: ReturnType<typeof accountNames>): Listed {
  const { name, uid, gid, what } = pin;
  const info = what.kind === 'map' ? what.info : null;
  const isOurs = Object.hasOwn(expectedMaps, name) || Object.hasOwn(expectedPrograms, name);
  return {
    name,
    kind: what.kind,
    type: info !== null ? mapTypeName(info.type) : what.kind === 'program' ? programTypeName(what.info.type) : null,
    key_size: info?.keySize ?? null,
    value_size: info?.valueSize ?? null,
    entries: info === null || !Object.hasOwn(expectedMaps, name) ? null : countEntries(pin),
    max_entries: info?.maxEntries ?? null,
    uid,
    gid,
    user: names.user(uid),
    group: names.group(gid),
    mode: pin.mode.toString(8).padStart(4, '0'),
    flags: info === null ? [] : mapFlagNames(info.flags),
    frozen: info?.frozen ?? false,
    foreign: !isOurs,
  };
}

/** Arrays are always full. */
function countEntries({ path, what }: Pin): number | null {
  if (what.kind !== 'map' || !isIterable(what.info)) return null;
  const type = mapTypeName(what.info.type);
  if (type !== 'hash' && type !== 'lpm_trie') return what.info.maxEntries;
  try {
    return withMap(path, (opened) => {
      let count = 0;
      for (const _ of rawEntries(opened)) count++;
      return count;
    });
  } catch (error) {
    if (isNativeError(error)) return null;
    throw error;
  }
}
