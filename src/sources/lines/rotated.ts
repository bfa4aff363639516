/** Files that a log became when it was rotated: beside it, with its name and something more. */
import { type FileHandle, readdir } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { hashOf, type Position } from './position.ts';
import { type FileStatus, keyOf, type Opened, openFile, readTail } from './segment.ts';

/** Open: its name may be another file's the moment after. */
export interface Rotated extends Opened {
  readonly path: string;
  readonly key: string;
}

/** More are not looked at: each is opened. */
const most = 256;

/** Names move on while they are read; looked at again until nothing has moved, at most so often. */
const mostLooks = 5;

const compressed = /\.(gz|bz2|xz|zst|lz4|zip)$/i;

/**
 * Whether `name` may be `base` rotated: `a.log.1`, `a.log-20261122`, and where the extension is kept (logrotate's
 * `extension`) `a.1.log`, `a-20261122.log`. Compressed ones can not be read on in.
 */
export function isRotatedName(name: string, base: string): boolean {
  if (name === base || compressed.test(name)) return false;
  if (name.startsWith(base)) return /^[.\-_]/.test(name.slice(base.length));
  const extension = extname(base);
  const stem = base.slice(0, base.length - extension.length);
  return (
    extension !== '' && name.startsWith(stem) && name.endsWith(extension) && /^[.\-_]\d/.test(name.slice(stem.length))
  );
}

/**
 * All of them that `wanted` says yes to and that can be opened, by the time they were last written, the oldest first. To be
 * closed by the caller.
 */
export async function rotatedOf(
  path: string,
  wanted: (status: FileStatus, key: string) => boolean,
): Promise<Rotated[]> {
  const found = new Map<string, Rotated>();
  let before: string | null = null;
  for (let n = 0; n < mostLooks; n++) {
    const seen = await lookAt(path, wanted, found);
    if (seen === before) break;
    before = seen;
  }
  return [...found.values()].sort((a, b) => compare(a.status.mtimeNs, b.status.mtimeNs));
}

/** What there is, as text. */
async function lookAt(
  path: string,
  wanted: (status: FileStatus, key: string) => boolean,
  found: Map<string, Rotated>,
): Promise<string> {
  const folder = dirname(path);
  const names = await readdir(folder).catch((): string[] => []);
  const seen: string[] = [];
  for (const name of names.filter((each) => isRotatedName(each, basename(path))).slice(0, most)) {
    // Gone meanwhile, a directory, or somebody else's: null.
    const opened = await openFile(join(folder, name)).catch(() => null);
    if (opened === null) continue;
    const { handle, status } = opened;
    const key = keyOf(status);
    seen.push(`${name} ${key}`);
    if (!found.has(key) && wanted(status, key)) found.set(key, { path: join(folder, name), key, handle, status });
    else await handle.close();
  }
  return seen.join('\n');
}

/** Files that were born and written to since then. A file system may keep coarse times: rather one too many. */
export function rotatedSince(
  path: string,
  since: Pick<FileStatus, 'mtimeNs' | 'birthtimeNs'>,
  isKnown: (status: FileStatus, key: string) => boolean,
): Promise<Rotated[]> {
  return rotatedOf(
    path,
    (status, key) =>
      status.mtimeNs >= since.mtimeNs && status.birthtimeNs >= since.birthtimeNs && !isKnown(status, key),
  );
}

/** Whether the file holds, before the position, what it held there; the bytes themselves, else null. */
export async function tailAt(handle: FileHandle, { offset, tailLength, tailHash }: Position): Promise<Buffer | null> {
  const tail = await readTail(handle, offset, tailLength);
  return tail !== null && hashOf(tail) === tailHash ? tail : null;
}

const compare = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
