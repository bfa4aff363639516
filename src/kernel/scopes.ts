/**
 * The rows of `scopes`: which ports an entry is limited to. Equal sets share a row; a row is written before the first entry
 * names it and stays as it is while one does, so all of this wants the exclusive lock but {@link portsAt}.
 */
import { everyPort, isSamePorts, type Ports } from '../address/port.ts';
import { FalcodropError } from '../errors.ts';
import { u32 } from './attach.ts';
import { decodeScope, encodeScope, MAX_SCOPES } from './layout.ts';
import { blockMapNames, type PinnedSet } from './set.ts';

/** The row that holds these ports, made where there is none yet; 0 for every port. Throws `scopes_full`. */
export function rowOf(set: PinnedSet, ports: Ports): number {
  if (ports.length === 0) return 0;
  const free = findRow(set, ports);
  if (free.found !== null) return free.found;
  const row = free.empty ?? releaseRows(set);
  if (row === null) {
    throw new FalcodropError(
      'scopes_full',
      `the entries are limited to ${MAX_SCOPES - 1} different sets of ports already`,
      'limit this one to ports that another is limited to, or unblock some: falcodrop list --json tells their ports',
    );
  }
  set.map('scopes').update(u32(row), encodeScope(ports));
  return row;
}

/** What an entry is limited to; a row that is empty or not there limits nothing. */
export function portsAt(set: PinnedSet, row: number): Ports {
  if (row === 0 || row >= MAX_SCOPES) return everyPort;
  const bytes = set.map('scopes').lookup(u32(row));
  return bytes === null ? everyPort : decodeScope(bytes);
}

/** Whether any row limits something: with none in use no entry can be narrower than what is wished of it. */
export function hasRows(set: PinnedSet): boolean {
  for (let row = 1; row < MAX_SCOPES; row++) if (portsAt(set, row).length > 0) return true;
  return false;
}

function findRow(set: PinnedSet, ports: Ports): { readonly found: number | null; readonly empty: number | null } {
  let empty: number | null = null;
  for (let row = 1; row < MAX_SCOPES; row++) {
    const held = portsAt(set, row);
    if (isSamePorts(held, ports)) return { found: row, empty };
    if (held.length === 0) empty ??= row;
  }
  return { found: null, empty };
}

/** Empties the rows that no entry names, by a look at every entry; the first of them, or null. */
function releaseRows(set: PinnedSet): number | null {
  const used = new Set<number>();
  for (const name of blockMapNames) for (const { value } of set.entries(name)) used.add(value.scope);
  let first: number | null = null;
  for (let row = 1; row < MAX_SCOPES; row++) {
    if (used.has(row)) continue;
    set.map('scopes').update(u32(row), encodeScope(everyPort));
    first ??= row;
  }
  return first;
}
