/** A ledger that can not be used is kept for those who want to look into it, and makes room for a new one. */
import { readdirSync, renameSync, rmSync } from 'node:fs';
import { fault } from '../../fault.ts';
import { native } from '../../kernel/native.ts';
import { ledgerError, ledgerFailure } from './failure.ts';
import { identityOf, ledgerPath, ledgerSuffixes, prepareState, type Service, syncPath } from './files.ts';
import { fileName } from './schema.ts';

export interface MoveAsideOptions {
  readonly service: Service;
  /**
   * {@link identityOf} from before the ledger was found to be bad: one that has taken its place meanwhile is left alone.
   */
  readonly bad: string | null;
  /** Wall ms, for the name. */
  readonly wallMs: number;
}

/** How long another process may take for the same. */
const patienceMs = 2_000;

/**
 * Renames ledger.db to ledger.db.bad-<time>, with its -wal and -shm, and makes an empty one. Returns the name it has now; null
 * when somebody else had done it. Throws `ledger_locked`, and what `prepareState` throws.
 */
export function moveAside(stateDir: string, { service, bad, wallMs }: MoveAsideOptions): string | null {
  const path = ledgerPath(stateDir);
  const lock = takeLock(stateDir);
  if (lock === null) throw ledgerError('ledger_locked', path);
  try {
    if (identityOf(stateDir) !== bad) return null;
    const aside = freeName(stateDir, wallMs);
    // The database first: without its log it would open, and be short of its last commits in silence.
    for (const suffix of ledgerSuffixes) {
      try {
        renameSync(`${path}${suffix}`, `${aside}${suffix}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
      fault('aside.moved');
    }
    syncPath(stateDir);
    fault('aside.emptied');
    prepareState(stateDir, service);
    return aside;
  } catch (error) {
    throw ledgerFailure(error, path);
  } finally {
    lock.release();
  }
}

/** Of ledgers that were moved aside, and of copies from before a migration. */
const mostKept = 3;

/**
 * Ledgers that were moved aside, and copies from before migrations, take room for ever where nobody looks: the newest three of
 * each stay, by the time or version in their names, and `latest` in any case, whatever the clock said when it was named. Returns
 * the names of what was deleted. Never throws.
 */
export function pruneAside(stateDir: string, latest: string | null = null): string[] {
  const deleted: string[] = [];
  try {
    const names = readdirSync(stateDir);
    const kinds = [
      new RegExp(`^${fileName}\\.bad-(\\d{8}T\\d{6}Z(?:-\\d+)?)(?:-wal|-shm)?$`),
      new RegExp(`^${fileName}\\.v(\\d+)$`),
    ];
    for (const kind of kinds) {
      const marks = new Set(names.flatMap((name) => kind.exec(name)?.[1] ?? []));
      const isLatest = (mark: string): boolean => latest?.endsWith(`.bad-${mark}`) === true;
      const newest = [...marks].sort(
        (a, b) => Number(isLatest(b)) - Number(isLatest(a)) || b.localeCompare(a, 'en', { numeric: true }),
      );
      const kept = new Set(newest.slice(0, mostKept));
      for (const name of names) {
        const mark = kind.exec(name)?.[1];
        if (mark === undefined || kept.has(mark)) continue;
        rmSync(`${stateDir}/${name}`, { force: true });
        deleted.push(name);
      }
    }
  } catch {
    // what can not be deleted stays
  }
  return deleted.sort();
}

/** `ledger.db.bad-20261107T142501Z`, and `-2` and so on where there is one already. */
function freeName(stateDir: string, wallMs: number): string {
  const time = new Date(wallMs).toISOString().replace(/[-:]|\.\d+/g, '');
  const base = `${fileName}.bad-${time}`;
  const taken = new Set(readdirSync(stateDir));
  const isFree = (name: string): boolean => ledgerSuffixes.every((suffix) => !taken.has(`${name}${suffix}`));
  let name = base;
  for (let n = 2; !isFree(name); n++) name = `${base}-${n}`;
  return `${stateDir}/${name}`;
}

/** flock on the state directory. Waits without the event loop: this is done at a start, or in the ledger's thread. */
function takeLock(stateDir: string): { release(): void } | null {
  const until = performance.now() + patienceMs;
  for (;;) {
    const lock = native().tryLock(stateDir, 'exclusive');
    if (lock !== null || performance.now() > until) return lock;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  }
}
