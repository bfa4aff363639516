/** SQLite's and the file system's failures as errors with a cause and a way out. Each kind has its code in errors.ts. */
import { accessSync, constants, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ErrorCode, FalcodropError } from '../../errors.ts';

/** Drops go on whatever the ledger's state is: every hint begins from there. */
const said: Readonly<Record<string, readonly [sentence: string, hint: string]>> = {
  ledger_missing: ['is not there', 'drops go on; root makes it: falcodrop attach, or falcodrop restore FILE'],
  ledger_not_database: [
    'is not a ledger: something else was written over it, or it is another program’s',
    'drops go on; falcodrop reconcile moves it aside and begins a new one from what the maps hold, or falcodrop restore FILE',
  ],
  ledger_corrupt: [
    'is damaged',
    'drops go on; falcodrop reconcile moves it aside and begins a new one from what the maps hold; falcodrop restore FILE brings a backup back',
  ],
  ledger_read_only: [
    'can not be written: its file system is read-only',
    'drops go on; see why (mount, dmesg), then mount it read-write',
  ],
  ledger_full: ['can not grow: the disk is full', 'drops go on; free some space on it (df, du)'],
  ledger_locked: [
    'is locked by another process',
    'drops go on; find who holds it (fuser, lsof) and end that; a shell of sqlite3 with an open transaction does this',
  ],
  ledger_io: ['can not be read or written: the disk fails', 'drops go on; see dmesg'],
  not_permitted: ['can not be opened by this user', 'run it as root, or as a member of the service’s group'],
};

export function ledgerError(code: ErrorCode, path: string, cause?: unknown): FalcodropError {
  const [sentence, hint] = said[code] ?? ['failed', undefined];
  const detail = cause instanceof Error ? ` (${cause.message})` : '';
  return new FalcodropError(code, `the ledger ${path} ${sentence}${detail}`, hint, cause);
}

/** Prefixes of SQLite's extended result codes (sqlite.org/rescode.html), and errno names. The first that fits. */
const codes: readonly (readonly [prefix: string, code: ErrorCode])[] = [
  ['SQLITE_BUSY', 'ledger_locked'],
  ['SQLITE_LOCKED', 'ledger_locked'],
  ['SQLITE_PROTOCOL', 'ledger_locked'],
  ['SQLITE_FULL', 'ledger_full'],
  ['SQLITE_NOTADB', 'ledger_not_database'],
  ['SQLITE_CORRUPT', 'ledger_corrupt'],
  ['SQLITE_IOERR_CORRUPTFS', 'ledger_io'],
  // The page is not in the file: it was cut.
  ['SQLITE_IOERR_SHORT_READ', 'ledger_corrupt'],
  ['SQLITE_READONLY', 'ledger_read_only'],
  ['SQLITE_PERM', 'not_permitted'],
  ['SQLITE_AUTH', 'not_permitted'],
  ['SQLITE_IOERR', 'ledger_io'],
  ['ENOSPC', 'ledger_full'],
  ['EDQUOT', 'ledger_full'],
  ['EROFS', 'ledger_read_only'],
  ['EACCES', 'not_permitted'],
  ['EPERM', 'not_permitted'],
  ['EIO', 'ledger_io'],
  ['ENOENT', 'ledger_missing'],
];

/** The error to throw for one of SQLite's or Node's; others come back as they are. */
export function ledgerFailure(error: unknown, path: string): unknown {
  if (error instanceof FalcodropError || !(error instanceof Error)) return error;
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string') return error;
  // Without room for its shared memory or its journal SQLite speaks of I/O or of opening.
  if (/^SQLITE_(IOERR|CANTOPEN)/.test(code)) {
    const disk = diskOf(path);
    if (disk === 'read-only') return ledgerError('ledger_read_only', path, error);
    if (disk === 'full') return ledgerError('ledger_full', path, error);
  }
  if (code.startsWith('SQLITE_CANTOPEN')) return ledgerError('not_permitted', path, error);
  const found = codes.find(([prefix]) => code.startsWith(prefix));
  return found === undefined ? error : ledgerError(found[1], path, error);
}

/** True for failures of the ledger or its disk, as opposed to mistakes in an event. */
export function isLedgerFailure(error: unknown): error is FalcodropError {
  return error instanceof FalcodropError && (error.code.startsWith('ledger_') || error.code === 'not_permitted');
}

/** What may lie behind an error that does not say so. */
function diskOf(path: string): 'full' | 'read-only' | null {
  try {
    accessSync(dirname(path), constants.W_OK);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EROFS' ? 'read-only' : null;
  }
  const { bavail, blocks, bsize } = statfsSync(dirname(path));
  // SQLite's shared memory comes in pieces of 32 KiB; a file system that counts no blocks says 0 of 0.
  return blocks > 0 && bavail * bsize < 65_536 ? 'full' : null;
}
