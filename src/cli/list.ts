/** `falcodrop list` */
import { comparePrefixes } from '../address/prefix.ts';
import { Blocklist, type Entry } from '../blocklist/blocklist.ts';
import { pinDirOf } from '../kernel/pins.ts';
import type { Call } from './call.ts';
import { entryColumns, entryObject, entryRow } from './output/entry.ts';
import { table } from './output/table.ts';

export async function listBlocks(call: Call): Promise<void> {
  const { answer, clock } = call;
  const entries = readLive(pinDirOf(call.environment));
  const nowMs = clock.now();
  if (answer.json) {
    for (const entry of entries) {
      answer.object(entryObject(entry, nowMs));
      if (answer.full) await answer.flush();
      if (answer.closed) return;
    }
    return;
  }
  if (entries.length === 0) {
    answer.line('nothing is blocked');
    return;
  }
  function* rows() {
    for (const entry of entries) yield entryRow(entry, nowMs);
  }
  for (const line of table(entryColumns(nowMs), rows, answer.colour)) {
    answer.line(line);
    if (answer.full) await answer.flush();
    if (answer.closed) return;
  }
}

/** Sorted by address. A map that changes while it is read may show an entry twice. */
function readLive(pinDir: string): Entry[] {
  const blocklist = Blocklist.open(pinDir);
  try {
    const live: Entry[] = [];
    for (const entry of blocklist.entries()) if (entry.state !== 'ended') live.push(entry);
    live.sort((a, b) => comparePrefixes(a.target, b.target));
    return live.filter((entry, index) => {
      const before = live[index - 1];
      return before === undefined || comparePrefixes(before.target, entry.target) !== 0;
    });
  } finally {
    blocklist.close();
  }
}
