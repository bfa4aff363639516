/**
 * The directory of a Falco (/etc/falco), changed by root: what is laid there is made beside it and renamed into place, what was
 * there is kept. Our own folder in it, `falcodrop/`, is root's alone and holds the lock, the backups and the record; Falco
 * reads every file of config.d and rules.d, so nothing of this may lie there.
 */
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { FalcodropError } from '../errors.ts';
import { readRegularFile } from '../falco/configuration.ts';
import { native } from '../kernel/native.ts';
import { isRoot } from './call.ts';

const ownName = 'falcodrop';
const lockName = '.lock';

/** Somebody else who is at it may be waiting for Falco's health; they are not waited for longer than this. */
const lockWaitMs = 2_000;

/** Bytes of a file of ours. */
const largestFile = 1 << 20;

/** S_IWGRP and S_IWOTH. */
const writableByOthers = 0o022;

/** The directory as it really is. Throws `falco_missing`, `falco_unsafe_path`. */
export function openFalcoDir(given: string): string {
  let dir: string;
  try {
    dir = realpathSync(given);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new FalcodropError(
      'falco_missing',
      `there is no ${given}`,
      'name the directory that Falco reads, as it is seen here (for a container, what is mounted there): --falco-dir',
      error,
    );
  }
  requireOwn(dir);
  return dir;
}

/** Whoever may write there could put a symbolic link in our way. Throws `falco_unsafe_path`. */
export function requireOwn(folder: string): void {
  const status = lstatSync(folder);
  if (!status.isDirectory()) {
    throw new FalcodropError(
      'falco_unsafe_path',
      status.isSymbolicLink() ? `${folder} is a symbolic link, which is not followed` : `${folder} is no directory`,
      'put the directory itself there',
    );
  }
  if (isRoot() && (status.uid !== 0 || (status.mode & writableByOthers) !== 0)) {
    throw new FalcodropError(
      'falco_unsafe_path',
      `${folder} is not root's alone`,
      `chown root:root ${folder}; chmod go-w ${folder}`,
    );
  }
}

/** Throws `not_permitted`, `failed`. */
export function requireWritable(dir: string): void {
  try {
    accessSync(dir, constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new FalcodropError('not_permitted', `${dir} may not be written by this user`, undefined, error);
    }
    throw new FalcodropError('failed', `${dir} can not be written: ${message}`, 'mount it so that it can be', error);
  }
}

export interface HeldTree {
  readonly dir: string;
  /** `DIR/falcodrop`. */
  readonly own: string;
  /** Frees the lock; without backups and records our folder goes, too. */
  readonly release: () => void;
}

/** One at a time. Throws `lock_busy`. */
export async function holdTree(dir: string): Promise<HeldTree> {
  const own = join(dir, ownName);
  const path = join(own, lockName);
  const deadline = performance.now() + lockWaitMs;
  for (;;) {
    const inode = makeLockFile(own, path);
    const left = Math.max(0, Math.ceil(deadline - performance.now()));
    const lock = inode === null ? null : await native().lock(path, 'exclusive', left).catch(ignoreMissing);
    // Who had it before may have taken the folder away.
    if (lock !== null && inodeOf(path) === inode) {
      removeLeftovers(own);
      return {
        dir,
        own,
        release: () => {
          tidy(own);
          lock.release();
        },
      };
    }
    lock?.release();
    if (performance.now() > deadline) {
      throw new FalcodropError('lock_busy', `another falcodrop is at work on ${dir}`, 'wait until it is done');
    }
  }
}

function ignoreMissing(error: unknown): null {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
  throw error;
}

/** Its inode; null when it went away meanwhile. */
function makeLockFile(own: string, path: string): bigint | null {
  try {
    mkdirSync(own, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    requireOwn(own);
  }
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600));
  } catch (error) {
    return ignoreMissing(error);
  }
  return inodeOf(path);
}

function inodeOf(path: string): bigint | null {
  return lstatSync(path, { throwIfNoEntry: false, bigint: true })?.ino ?? null;
}

/** Of who was killed. */
function removeLeftovers(own: string): void {
  for (const name of readdirSync(own)) {
    if (/^(stage|bundle)-\d+/.test(name)) rmSync(join(own, name), { recursive: true, force: true });
  }
}

function tidy(own: string): void {
  try {
    const backups = join(own, 'backup');
    if (statSync(backups, { throwIfNoEntry: false }) !== undefined) removeEmpty(backups);
    if (readdirSync(own).some((name) => name !== lockName)) return;
    unlinkSync(join(own, lockName));
    rmdirSync(own);
  } catch (error) {
    if (!['ENOTEMPTY', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** Folders in which nothing is; true: this one is gone. */
function removeEmpty(folder: string): boolean {
  const left = readdirSync(folder, { withFileTypes: true }).filter(
    (entry) => !entry.isDirectory() || !removeEmpty(join(folder, entry.name)),
  );
  if (left.length > 0) return false;
  rmdirSync(folder);
  return true;
}

/** Null where there is none. A symbolic link is not followed: `falco_unsafe_path`. */
export function readLaid(path: string): Buffer | null {
  return readRegularFile(path, largestFile, constants.O_NOFOLLOW);
}

/** Makes a folder of Falco's where it is not there (0755, whatever the umask); true: it was made. */
export function makeFolder(path: string): boolean {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    requireOwn(path);
    return false;
  }
  mkdirSync(path);
  setMode(path, 0o755);
  syncFolder(dirname(path));
  return true;
}

function setMode(path: string, mode: number): void {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    fchmodSync(descriptor, mode);
  } finally {
    closeSync(descriptor);
  }
}

/** Whole and on the disk before it has its name, which may be taken: that file is replaced. Root's where root does it. */
export function lay({ own }: HeldTree, path: string, bytes: Uint8Array, mode: number): void {
  const stage = join(own, `stage-${process.pid}`);
  writeWhole(stage, bytes, mode);
  try {
    renameSync(stage, path);
  } catch (error) {
    rmSync(stage, { force: true });
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EXDEV' && code !== 'EBUSY') throw error;
    throw new FalcodropError(
      'failed',
      `${path} can not be replaced in one step: it, or the folder that it lies in, is a mount of its own`,
      'name the directory that is mounted there: --falco-dir',
      error,
    );
  }
  syncFolder(dirname(path));
}

/** A new file; what was there by this name is not followed and not written to. */
export function writeWhole(path: string, bytes: Uint8Array, mode: number): void {
  rmSync(path, { force: true });
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const descriptor = openSync(path, flags, 0o600);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
    if (isRoot()) fchownSync(descriptor, 0, 0);
    fchmodSync(descriptor, mode);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** A second name for the file as it is, with its owner and mode: `backup/TIME/config.d/…`, below our folder. */
export function keep({ own, dir }: HeldTree, path: string, nowMs: number): string {
  const kept = join('backup', stamp(nowMs, join(own, 'backup')), path);
  mkdirSync(join(own, dirname(kept)), { recursive: true, mode: 0o700 });
  linkSync(join(dir, path), join(own, kept));
  syncFolder(join(own, dirname(kept)));
  return kept;
}

/** A name of its own for each act: `20261122T140000Z`, `20261122T140000Z-2`. */
export function stamp(nowMs: number, folder: string): string {
  const name = new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '');
  for (let n = 1; ; n++) {
    const each = n === 1 ? name : `${name}-${n}`;
    if (lstatSync(join(folder, each), { throwIfNoEntry: false }) === undefined) return each;
  }
}

export function syncFolder(path: string): void {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** A record of ours; null where there is none. Throws `falco_config` for what is no record. */
export function readRecord<T>(
  { own }: Pick<HeldTree, 'own'>,
  name: string,
  isRecord: (value: unknown) => value is T,
): T | null {
  const path = join(own, name);
  const bytes = readLaid(path);
  if (bytes === null) return null;
  try {
    const value: unknown = JSON.parse(bytes.toString());
    if (isRecord(value)) return value;
  } catch {
    // said below
  }
  throw new FalcodropError(
    'falco_config',
    `${path} is no record of falcodrop`,
    'move it away: what it lists is then nobody’s',
  );
}

/** Null takes it away. */
export function writeRecord(tree: HeldTree, name: string, value: object | null): void {
  const path = join(tree.own, name);
  if (value === null) rmSync(path, { force: true });
  else lay(tree, path, Buffer.from(`${JSON.stringify(value, null, 2)}\n`), 0o600);
}
