/** A block-list entry in both forms. */
import { formatPrefix } from '../../address/prefix.ts';
import type { Entry } from '../../blocklist/entry.ts';
import { amount } from './amount.ts';
import { local, localClock, localDay, localIn, offset, roughly, utc } from './moment.ts';
import type { Column, Row } from './table.ts';

/**
 * Keys of an entry in JSON. `ends_at` and `ends_in_seconds`: the end of `state`; null = for ever. `drop_seconds` and
 * `count_seconds`: how long it goes on dropping, and counting without dropping; 0 = it does not, null = for ever.
 */
export interface EntryObject {
  readonly target: string;
  readonly state: 'enforce' | 'monitor' | 'ended';
  readonly ends_at: string | null;
  readonly ends_in_seconds: number | null;
  readonly drop_seconds: number | null;
  readonly count_seconds: number | null;
  readonly owners: readonly string[];
  readonly packets: number;
  readonly bytes: number;
  readonly last_seen_at: string | null;
}

/** Seconds until the state it has now ends: null = never. */
export function secondsOfState(entry: Entry): number | null {
  return entry.state === 'enforce' ? entry.dropSeconds : entry.state === 'monitor' ? entry.countSeconds : 0;
}

export function entryObject(entry: Entry, nowMs: number): EntryObject {
  const seconds = secondsOfState(entry);
  const { lastSeenSecondsAgo } = entry;
  return {
    target: formatPrefix(entry.target),
    state: entry.state,
    ends_at: endAt(seconds, nowMs),
    ends_in_seconds: wholeSeconds(seconds),
    drop_seconds: wholeSeconds(entry.dropSeconds),
    count_seconds: wholeSeconds(entry.countSeconds),
    owners: entry.owners,
    packets: entry.packets,
    bytes: entry.bytes,
    last_seen_at: lastSeenSecondsAgo === null ? null : utc(nowMs - lastSeenSecondsAgo * 1000),
  };
}

/** null = for ever, and for what has ended or never was. */
export function endAt(seconds: number | null, nowMs: number): string | null {
  return seconds === null || seconds === 0 ? null : utc(nowMs + seconds * 1000);
}

/** Up: what is alive has a second at least. */
export function wholeSeconds(seconds: number | null): number | null {
  return seconds === null ? null : Math.ceil(seconds);
}

/** `until 2026-11-22 05:31:02 +01:00 (in 1h)`, `for ever`. */
export function untilText(seconds: number | null, nowMs: number): string {
  return seconds === null ? 'for ever' : `until ${localIn(seconds, nowMs)}`;
}

/**
 * Its offset from UTC stands in the heading, so that a row fits 80 columns. Where one does not (IPv6, a policy's name), what
 * matters least goes first: of WHY what is beyond a few words, then LAST SEEN and BYTES, and at last who and why; target, state
 * and end stay whole.
 */
export function entryColumns(nowMs: number): readonly Column[] {
  return [
    { title: 'TARGET' },
    { title: 'STATE', colour: (state) => (state === 'enforce' ? 'red' : state === 'monitor' ? 'yellow' : 'dim') },
    { title: `ENDS (${offset(nowMs)})` },
    {
      title: 'OWNER',
      yields: [
        [4, 8],
        [8, 4],
      ],
    },
    { title: 'PACKETS', right: true, yields: [[6, 0]] },
    { title: 'BYTES', right: true, yields: [[3, 0]] },
    { title: 'LAST SEEN', yields: [[2, 0]] },
  ];
}

export function entryRow(entry: Entry, nowMs: number): Row {
  const { lastSeenSecondsAgo: ago } = entry;
  return [
    formatPrefix(entry.target),
    entry.state,
    shortEnd(secondsOfState(entry), nowMs),
    entry.owners.length === 0 ? '-' : entry.owners.join(','),
    amount(entry.packets),
    amount(entry.bytes),
    ago === null ? '-' : `${roughly(ago)} ago`,
  ];
}

/** `05:31:02 (59m)` today, `11-23 05:31 (1d)` this year, else the day; in full where the offset is another one. */
export function shortEnd(seconds: number | null, nowMs: number): string {
  if (seconds === null) return 'never';
  if (seconds === 0) return 'ended';
  const end = nowMs + seconds * 1000;
  const rest = `(${roughly(seconds)})`;
  if (offset(end) !== offset(nowMs)) return `${local(end)} ${rest}`;
  const day = localDay(end);
  const today = localDay(nowMs);
  if (day === today) return `${localClock(end)} ${rest}`;
  if (day.slice(0, 4) === today.slice(0, 4)) return `${day.slice(5)} ${localClock(end).slice(0, 5)} ${rest}`;
  return `${day} ${rest}`;
}
