/** A file of the configuration as text: whatever lies at its path, reading it ends, and soon. */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { FalcodropError } from '../errors.ts';

/** Bytes; a configuration is a page. */
export const largestFile = 1 << 20;

export interface TextFile {
  readonly text: string;
  readonly stats: Stats;
}

const sentences: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'it may not be read',
  EPERM: 'it may not be read',
  EISDIR: 'it is a directory',
  ENOTDIR: 'its path leads through what is no directory',
  ELOOP: 'its path is a loop of symbolic links',
  ENAMETOOLONG: 'its path is longer than paths may be',
  ENXIO: 'it is no regular file',
};

export function unreadable(path: string, error: unknown): FalcodropError {
  const { code = '', message } = error as NodeJS.ErrnoException;
  const hint =
    code === 'ENOENT' ? 'name one that is there (--config, FALCODROP_CONFIG), or none for the defaults' : undefined;
  return new FalcodropError('file_unreadable', `${path}: ${sentences[code] ?? message}`, hint, error);
}

/**
 * At most `largest` bytes of UTF-8. A pipe is not waited for, a device not read, no terminal taken over. Throws `file_unreadable`;
 * `config_invalid` for what is too large or no UTF-8.
 */
export function readText(path: string, largest: number = largestFile): TextFile {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    throw unreadable(path, error);
  }
  try {
    const stats = fstatSync(descriptor);
    if (stats.isDirectory()) throw new FalcodropError('file_unreadable', `${path}: it is a directory`);
    if (!stats.isFile()) throw new FalcodropError('file_unreadable', `${path}: it is no regular file`);
    const bytes = readAtMost(descriptor, largest + 1);
    if (bytes.length > largest) {
      throw new FalcodropError('config_invalid', `${path}: it is larger than such a file may be (${largest} bytes)`);
    }
    return { text: decode(path, bytes), stats };
  } catch (error) {
    throw error instanceof FalcodropError ? error : unreadable(path, error);
  } finally {
    closeSync(descriptor);
  }
}

function readAtMost(descriptor: number, most: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(most);
  let length = 0;
  while (length < most) {
    const got = readSync(descriptor, buffer, length, most - length, null);
    if (got === 0) break;
    length += got;
  }
  return buffer.subarray(0, length);
}

function decode(path: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new FalcodropError('config_invalid', `${path}: it is not UTF-8 text`, undefined, error);
  }
}
