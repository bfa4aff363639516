/** How much history is kept: by age and by size, the oldest goes first, in slices. Claims and their causes stay. */
import type { Database } from 'better-sqlite3';

export interface Retention {
  readonly maxAgeMs: number;
  /** Of the database without its free pages. */
  readonly maxBytes: number;
}

export const defaultRetention: Retention = { maxAgeMs: 400 * 86_400_000, maxBytes: 512 * 1024 * 1024 };

export interface Pruned {
  readonly history: number;
  readonly causes: number;
  /** Nothing is left to do: call again only later. */
  readonly isDone: boolean;
}

/** Rows of history a slice; with a cause each, some 10 ms. */
const slice = 500;
/** Pages given back to the file system a slice. */
const pages = 200;
/** A set's cause is written before the first of its claims; no import takes so long. */
const youngMs = 3_600_000;

export function openRetention(database: Database) {
  const oldest = database.prepare<[number], { id: number; at: number; cause: number | null }>(
    'SELECT id, at, cause FROM history ORDER BY id LIMIT ?',
  );
  const removeUpTo = database.prepare('DELETE FROM history WHERE id <= ?');
  // A cause of one target is looked for where that target's rows are; one of many only by the sweep.
  const removeCause = database.prepare(
    `DELETE FROM causes WHERE id = ? AND target IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM claims WHERE claims.target = causes.target AND claims.cause = causes.id)
       AND NOT EXISTS (SELECT 1 FROM history WHERE history.target = causes.target AND history.cause = causes.id)`,
  );
  const removeOfMany = database.prepare('DELETE FROM causes WHERE id = ?');

  const bytes = (): number => {
    const of = (pragma: string): number => Number(database.pragma(pragma, { simple: true }));
    return (of('page_count') - of('freelist_count')) * of('page_size');
  };

  /** One slice, inside a transaction. */
  function prune({ maxAgeMs, maxBytes }: Retention, nowMs: number): Pruned {
    const isTooBig = bytes() > maxBytes;
    const rows = oldest.all(slice);
    const going = isTooBig ? rows : rows.filter(({ at }) => at < nowMs - maxAgeMs);
    const last = going.at(-1);
    if (last !== undefined) {
      removeUpTo.run(last.id);
      let causes = 0;
      for (const id of new Set(going.map(({ cause }) => cause))) if (id !== null) causes += removeCause.run(id).changes;
      database.pragma(`incremental_vacuum(${pages})`);
      return { history: going.length, causes, isDone: false };
    }
    return { history: 0, causes: 0, isDone: true };
  }

  /**
   * Causes of sets that nothing refers to any more, found on a connection that only reads, for it reads all claims and all
   * history. What is found stays unused: a set's cause is only referred to while the set is made, and by what it made.
   */
  function unusedCauses(reader: Database, nowMs: number): number[] {
    const candidates = reader
      .prepare<[number], number>('SELECT id FROM causes WHERE target IS NULL AND at < ?')
      .pluck()
      .all(nowMs - youngMs);
    if (candidates.length === 0) return [];
    const used = new Set(
      reader.prepare<[], number>('SELECT cause FROM claims UNION SELECT cause FROM history').pluck().all(),
    );
    return candidates.filter((id) => !used.has(id));
  }

  function removeCauses(ids: readonly number[]): number {
    return ids.reduce((removed, id) => removed + removeOfMany.run(id).changes, 0);
  }

  return { prune, unusedCauses, removeCauses, bytes };
}
