/**
 * The state directory and the ledger's files in it: made as they must be, and refused where somebody else could have put
 * something in their place.
 *
 * SQLite creates a database with mode 0644 & ~umask, and gives `-wal` and `-shm` the mode of the database (as root its owner
 * too). So ledger.db is made empty, 0660 and the service's, in a 2770 directory, before SQLite opens it: then root, the service
 * and members of its group work on it together, whatever their umask.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  type Stats,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { FalcodropError } from '../../errors.ts';
import { fault } from '../../fault.ts';
import { ledgerError, ledgerFailure } from './failure.ts';
import { fileName } from './schema.ts';

/** Whom the ledger belongs to: `service.user` and `service.group` of the configuration as numbers; root where absent. */
export interface Service {
  readonly uid: number;
  readonly gid: number;
}

export const ledgerPath = (stateDir: string): string => join(stateDir, fileName);

/** The database and what SQLite keeps beside it. */
export const ledgerSuffixes = ['', '-wal', '-shm'] as const;

const directoryMode = 0o2770;
const fileMode = 0o660;
const rootUid = 0;

const isRoot = (): boolean => process.geteuid?.() === rootUid;

/** Which file it is, to tell it from one that took its place; null when there is none. */
export function identityOf(stateDir: string): string | null {
  try {
    const { dev, ino } = lstatSync(ledgerPath(stateDir));
    return `${dev}:${ino}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw ledgerFailure(error, ledgerPath(stateDir));
  }
}

/**
 * Makes the directory and an empty ledger where they are missing (root and the service's user may), mends modes where this
 * process owns them, and checks all of it. Returns the database's path. Throws `ledger_unsafe_path`, `ledger_missing`
 * (`create` false, or not ours to make), `not_permitted`, `ledger_read_only`, `ledger_full`.
 */
export function prepareState(stateDir: string, service: Service, { create = true }: { create?: boolean } = {}): string {
  const path = ledgerPath(stateDir);
  try {
    checkParents(stateDir, service);
    const mayMake = create && (isRoot() || process.geteuid?.() === service.uid);
    if (mayMake) makeDirectory(stateDir, service);
    checkDirectory(stateDir, service);
    checkFiles(path, service);
    followMode(path);
    if (isRoot() && service.uid !== rootUid) for (const suffix of ledgerSuffixes) handOver(`${path}${suffix}`, service);
    if (statusOf(path) === null) {
      if (!mayMake) throw ledgerError('ledger_missing', path);
      // What would be left of a database whose main file is gone; SQLite would throw it away.
      if ((statusOf(`${path}-wal`)?.size ?? 0) > 0) throw orphanedLog(path);
      makeFile(path, service);
    } else if (statusOf(path)?.size === 0 && (statusOf(`${path}-wal`)?.size ?? 0) > 0) {
      throw orphanedLog(path);
    }
    return path;
  } catch (error) {
    throw ledgerFailure(error, path);
  }
}

function orphanedLog(path: string): FalcodropError {
  return new FalcodropError(
    'ledger_corrupt',
    `the ledger ${path} is gone or empty, and ${path}-wal, which belongs to it, is not`,
    'drops go on; falcodrop reconcile moves the rest aside and begins a new one from what the maps hold',
  );
}

/** Makes it empty where it is not there; null when it is. For backups too. */
export function makeEmptyFile(path: string, mode: number, owner: Service | null): boolean {
  let descriptor: number;
  try {
    descriptor = openSync(
      path,
      constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      mode & 0o600,
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    // The owner first: a new one takes set-id bits away, and nobody else is let in before it is his.
    if (owner !== null && isRoot()) fchownSync(descriptor, owner.uid, owner.gid);
    fchmodSync(descriptor, mode);
  } finally {
    closeSync(descriptor);
  }
  return true;
}

export function syncPath(path: string): void {
  const descriptor = openSync(path, constants.O_RDONLY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** What root made while there was no service becomes the service's. Looked at again through the descriptor. */
function handOver(path: string, service: Service): void {
  if (statusOf(path)?.uid !== rootUid) return;
  const descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile() || status.uid !== rootUid || status.nlink !== 1) return;
    fchownSync(descriptor, service.uid, service.gid);
    fchmodSync(descriptor, fileMode);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * SQLite gives the files beside the database the mode that it had then. Where it was read-only for a time they would stay so, and
 * nobody could write it any more.
 */
function followMode(path: string): void {
  const main = statusOf(path);
  for (const suffix of ['-wal', '-shm']) {
    const beside = statusOf(`${path}${suffix}`);
    if (main === null || beside === null || ((main.mode ^ beside.mode) & 0o777) === 0) continue;
    if (!isRoot() && beside.uid !== process.geteuid?.()) continue;
    let descriptor: number;
    try {
      descriptor = openSync(`${path}${suffix}`, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      // The last who had the database open has closed it.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw error;
    }
    try {
      const status = fstatSync(descriptor);
      if (status.isFile() && status.nlink === 1) fchmodSync(descriptor, main.mode & 0o777);
    } finally {
      closeSync(descriptor);
    }
  }
}

function makeFile(path: string, service: Service): void {
  makeEmptyFile(path, fileMode, service);
  fault('ledger.made');
  syncPath(dirname(path));
}

function makeDirectory(stateDir: string, service: Service): void {
  let isNew = true;
  mkdirSync(dirname(stateDir), { recursive: true, mode: 0o755 });
  try {
    mkdirSync(stateDir, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    isNew = false;
  }
  let descriptor: number;
  try {
    descriptor = openSync(stateDir, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch {
    return; // what it is, and whose, the check says
  }
  try {
    const { uid, gid, mode } = fstatSync(descriptor);
    if (uid !== rootUid && uid !== service.uid) return;
    // Root keeps a directory that it made before; a new one is the service's.
    if (isRoot() && (isNew || gid !== service.gid)) fchownSync(descriptor, isNew ? service.uid : uid, service.gid);
    if ((isRoot() || uid === process.geteuid?.()) && (mode & 0o7777) !== directoryMode)
      fchmodSync(descriptor, directoryMode);
  } finally {
    closeSync(descriptor);
  }
}

/** Every directory above: root's, the service's or ours, and not for all to write (but sticky ones); links only root's. */
function checkParents(stateDir: string, service: Service): void {
  const trusted = new Set([rootUid, service.uid, process.geteuid?.() ?? rootUid]);
  const parent = existingParent(resolve(stateDir));
  for (const path of [...ancestors(parent), ...ancestors(realpathSync(parent))]) {
    const status = lstatSync(path);
    if (!trusted.has(status.uid)) {
      throw unsafe(path, `belongs to user ${status.uid}, who could replace what lies below`);
    }
    if (status.isDirectory() && (status.mode & 0o1002) === 0o0002) {
      throw unsafe(path, 'can be written by everybody, who could replace what lies below');
    }
  }
}

function existingParent(stateDir: string): string {
  let path = dirname(stateDir);
  while (statusOf(path) === null && path !== '/') path = dirname(path);
  return path;
}

function ancestors(path: string): string[] {
  const all = [path];
  while (path !== '/') {
    path = dirname(path);
    all.push(path);
  }
  return all;
}

function checkDirectory(stateDir: string, service: Service): void {
  const status = statusOf(stateDir);
  if (status === null) throw ledgerError('ledger_missing', ledgerPath(stateDir));
  if (status.isSymbolicLink()) throw unsafe(stateDir, 'is a symbolic link');
  if (!status.isDirectory()) throw unsafe(stateDir, 'is not a directory');
  if (status.uid !== rootUid && status.uid !== service.uid) {
    throw unsafe(stateDir, `belongs to user ${status.uid}, neither root nor the service’s user ${service.uid}`);
  }
  if ((status.mode & 0o002) !== 0) throw unsafe(stateDir, 'can be written by everybody');
}

function checkFiles(path: string, service: Service): void {
  for (const suffix of ledgerSuffixes) {
    const file = `${path}${suffix}`;
    const status = statusOf(file);
    if (status === null) continue;
    if (status.isSymbolicLink()) throw unsafe(file, 'is a symbolic link');
    if (!status.isFile()) throw unsafe(file, 'is not a regular file');
    if (status.nlink > 1) throw unsafe(file, 'has a second name (hard link)');
    const isOurs = status.uid === rootUid || status.uid === service.uid;
    // What SQLite makes beside the database for a member of the group is that member's.
    const isMembers = suffix !== '' && status.gid === service.gid;
    if (!isOurs && !isMembers) {
      throw unsafe(file, `belongs to user ${status.uid}, neither root nor the service’s user ${service.uid}`);
    }
  }
}

function statusOf(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    if (code === 'ENOTDIR') throw unsafe(dirname(path), 'is not a directory');
    throw error;
  }
}

function unsafe(path: string, why: string): FalcodropError {
  return new FalcodropError(
    'ledger_unsafe_path',
    `${path} ${why}: the ledger is not kept there`,
    'see who made it so, and mend or remove it (ls -ld); FALCODROP_STATE_DIR names another place',
  );
}
