/**
 * `allow.d`, beside the configuration: what root allows. Root believes no file that somebody else may write, and follows no
 * symbolic link there. One file, `10-hand`, is written by `falcodrop allow`; the others are their authors'.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { comparePrefixes, type Prefix } from '../address/prefix.ts';
import { defaultConfigPath } from '../config/path.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { native } from '../kernel/native.ts';
import { type AllowFile, type AllowLine, formatAllowLine, isStanding, parseAllowFile } from './allow-file.ts';
import type { Call } from './call.ts';
import { namedConfig } from './settings.ts';

export const handFile = '10-hand';

/** What `falcodrop allow` flocks, 0600: who may not open it can not hold it up. */
const lockFile = '.lock';

/** Bytes; the kernel holds 16 384 prefixes of a family. */
const largestFile = 4 << 20;

/** S_IWGRP and S_IWOTH. */
const writableByOthers = 0o022;

export interface ReadAllowFile extends AllowFile {
  readonly name: string;
  readonly path: string;
}

export function allowFolderOf(call: Call): string {
  return join(dirname(resolve(namedConfig(call) ?? defaultConfigPath)), 'allow.d');
}

/** Names that editors and package managers leave behind, and hidden ones, are no allow files (as run-parts has it). */
function isAllowFileName(name: string): boolean {
  return (
    /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name) &&
    !/\.(bak|orig|rej|swp|tmp|disabled|dpkg-\w+|rpm\w+|ucf-\w+)$/.test(name)
  );
}

/**
 * Every file, by name; none where there is no such folder. A file that can not be believed or read has it as its problem.
 * Throws `file_unreadable` for a folder that can not.
 */
export function readAllowFolder(folder: string): ReadAllowFile[] {
  let names: string[];
  try {
    requireRoots(folder, lstatSync(folder), 'a directory');
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw unreadable(folder, error);
  }
  return names
    .filter(isAllowFileName)
    .toSorted()
    .map((name) => ({ name, path: join(folder, name), ...readAllowFile(join(folder, name)) }));
}

/** Never throws: whatever is wrong is a problem of line 0. */
export function readAllowFile(path: string): AllowFile {
  try {
    const text = textOf(path);
    return text === null ? { allows: [], problems: [] } : parseAllowFile(text);
  } catch (error) {
    const message = error instanceof FalcodropError ? error.message : unreadable(path, error).message;
    return { allows: [], problems: [{ line: 0, message }] };
  }
}

/** Null where there is no such file. O_NONBLOCK: a pipe would wait for a writer. */
function textOf(path: string): string | null {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    if (code !== 'ELOOP') throw error;
    throw new FalcodropError('file_unreadable', 'is a symbolic link, which is not followed: put the file itself there');
  }
  try {
    const status = fstatSync(descriptor);
    requireRoots(path, status, 'a file');
    if (status.size > largestFile) throw new FalcodropError('file_unreadable', 'is larger than 4 MiB');
    return readFileSync(descriptor, 'utf8');
  } finally {
    closeSync(descriptor);
  }
}

interface Status {
  readonly uid: number;
  readonly mode: number;
  isFile(): boolean;
  isDirectory(): boolean;
}

function requireRoots(path: string, status: Status, what: 'a file' | 'a directory'): void {
  const is = what === 'a file' ? status.isFile() : status.isDirectory();
  if (!is) throw new FalcodropError('file_unreadable', `is not ${what}`);
  if (status.uid !== 0 || (status.mode & writableByOthers) !== 0) {
    throw new FalcodropError('file_unreadable', `is not root's alone: chown root:root ${path}; chmod go-w ${path}`);
  }
}

function unreadable(path: string, error: unknown): FalcodropError {
  if (error instanceof FalcodropError) {
    return new FalcodropError('file_unreadable', `${path} ${error.message}`, error.hint, error);
  }
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EACCES') return new FalcodropError('not_permitted', `${path} may not be read`, undefined, error);
  return new FalcodropError('file_unreadable', `can not be read: ${code ?? message}`, undefined, error);
}

export interface HandFile {
  /** As they stand there, comments and empty lines too, without their ends. */
  readonly lines: readonly string[];
  readonly allows: readonly AllowLine[];
}

/**
 * Changes `10-hand` under its lock; `change` returns what is added, and the targets whose lines go. Lines that have ended go
 * too, all others stay as they are. The new file is renamed into place, on the disk before it is. Throws `allow_file_invalid`,
 * once for all lines that are wrong: they would be lost, or meant otherwise.
 */
export async function changeHandFile(
  folder: string,
  nowMs: number,
  change: (allows: readonly AllowLine[]) => {
    readonly add: readonly Omit<AllowLine, 'line'>[];
    readonly remove: readonly Prefix[];
  },
): Promise<void> {
  prepareFolder(folder);
  const lock = await lockFolder(folder);
  try {
    const path = join(folder, handFile);
    const text = readHand(path);
    const { allows, problems } = parseAllowFile(text);
    const [problem] = problems;
    if (problem !== undefined) {
      const more = problems.length === 1 ? '' : ` (and ${problems.length - 1} more)`;
      throw new FalcodropError(
        'allow_file_invalid',
        `${path}:${problem.line}: ${problem.message}${more}`,
        'mend the file first; nothing was changed',
      );
    }
    const { add, remove } = change(allows);
    if (add.length === 0 && remove.length === 0) return;
    const gone = new Set(
      allows
        .filter(
          (each) =>
            !isStanding(each, nowMs) ||
            isIn(each.target, remove) ||
            isIn(
              each.target,
              add.map(({ target }) => target),
            ),
        )
        .map(({ line }) => line),
    );
    const kept = text
      .replace(/\n$/, '')
      .split('\n')
      .filter((_, index) => !gone.has(index + 1));
    const head = text === '' ? ['# Written by "falcodrop allow"; yours to edit: then falcodrop protect'] : kept;
    write(folder, `${[...head, ...add.map(formatAllowLine)].join('\n')}\n`);
  } finally {
    lock.release();
  }
}

function isIn(target: Prefix, prefixes: readonly Prefix[]): boolean {
  return prefixes.some((each) => comparePrefixes(each, target) === 0);
}

function readHand(path: string): string {
  try {
    return textOf(path) ?? '';
  } catch (error) {
    throw unreadable(path, error);
  }
}

function prepareFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    requireRoots(folder, lstatSync(folder), 'a directory');
  } catch (error) {
    throw unreadable(folder, error);
  }
}

async function lockFolder(folder: string): Promise<{ release(): void }> {
  const path = join(folder, lockFile);
  closeSync(openSync(path, constants.O_RDONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600));
  const lock = await native().lock(path, 'exclusive', 10_000);
  if (lock !== null) return lock;
  throw new FalcodropError('lock_busy', `another falcodrop has held ${path} for 10 s`, 'find it: fuser, or lsof');
}

/** Nobody reads half of it, and after a crash it is the old one or the new one. */
function write(folder: string, text: string): void {
  // Under the lock: what is there was left by a process that was killed.
  for (const name of readdirSync(folder)) if (name.startsWith(`.${handFile}.`)) unlinkSync(join(folder, name));
  const fresh = join(folder, `.${handFile}.${process.pid}`);
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const descriptor = openSync(fresh, flags, 0o644);
  try {
    fchmodSync(descriptor, 0o644);
    const bytes = Buffer.from(text);
    for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
    fsyncSync(descriptor);
    renameSync(fresh, join(folder, handFile));
  } catch (error) {
    unlinkSync(fresh);
    throw unwritable(folder, error);
  } finally {
    closeSync(descriptor);
  }
  const directory = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
  fault('allow.written');
}

function unwritable(folder: string, error: unknown): FalcodropError {
  const { code, message } = error as NodeJS.ErrnoException;
  return new FalcodropError(
    'failed',
    `${join(folder, handFile)} could not be written: ${code ?? message}`,
    'it is as it was, and so is the kernel',
    error,
  );
}
