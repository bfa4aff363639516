/**
 * One file that is being read, held open whatever becomes of its name.
 *
 * Each read begins some bytes before what is new and compares these with what was there: a file that was truncated and has
 * grown past the old position since (copytruncate) is told by its content, not by its size.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { hashOf, type Position } from './position.ts';
import type { LineSplitter } from './splitter.ts';

/** Bytes before a position that tell a file from another. An alert has its time, to the nanosecond, in its last bytes. */
export const tailSize = 1024;

/** `not_a_file`: a directory, a pipe, a device. */
export class NotAFile extends Error {}

export interface FileStatus {
  readonly dev: string;
  readonly ino: string;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly birthtimeNs: bigint;
}

export interface Opened {
  readonly handle: FileHandle;
  readonly status: FileStatus;
}

export type Read = { readonly bytes: Buffer } | 'end' | 'truncated';

interface Mark {
  readonly offset: number;
  readonly tail: Buffer;
}

const nothing: Mark = { offset: 0, tail: Buffer.alloc(0) };

export class Segment {
  readonly handle: FileHandle;
  readonly dev: string;
  readonly ino: string;
  readonly bornNs: bigint;
  /** A copy that was made before a truncation: it grows no more. */
  readonly isCopy: boolean;
  splitter: LineSplitter;
  /** Polls in a row that found nothing new in it. */
  emptyPolls = 0;
  #offset: number;
  #tail: Buffer;
  #mark: Mark;
  /** The file's first bytes: with these a copy of it begins, too. */
  #head: Buffer;

  constructor(
    handle: FileHandle,
    { dev, ino, birthtimeNs }: FileStatus,
    splitter: LineSplitter,
    from: Mark & { readonly head?: Buffer; readonly mark?: Mark; readonly isCopy?: boolean } = nothing,
  ) {
    this.handle = handle;
    this.dev = dev;
    this.ino = ino;
    this.bornNs = birthtimeNs;
    this.isCopy = from.isCopy ?? false;
    this.splitter = splitter;
    this.#offset = from.offset;
    this.#tail = from.tail;
    this.#mark = from.mark ?? from;
    this.#head = from.head ?? nothing.tail;
  }

  get key(): string {
    return keyOf(this);
  }

  /** Where reading stands, within a line perhaps, and the bytes before it. */
  get at(): { readonly offset: number; readonly tail: Buffer; readonly mark: Mark } {
    return { offset: this.#offset, tail: this.#tail, mark: this.#mark };
  }

  /** The end of the last line that was handed on. */
  get position(): Position {
    const { offset, tail } = this.#mark;
    return { dev: this.dev, ino: this.ino, offset, tailLength: tail.length, tailHash: hashOf(tail) };
  }

  /** Whether this is a copy of what was read here, without anything that was not. */
  async holds({ handle, status }: Opened): Promise<boolean> {
    const length = Math.min(this.#head.length, status.size);
    if (length === 0 || status.size > this.#offset) return false;
    return (await readTail(handle, length, length))?.equals(this.#head.subarray(0, length)) ?? false;
  }

  /** What is new, as far as it fits into `buffer`, in which it lies. */
  async read(buffer: Buffer): Promise<Read> {
    const before = this.#tail.length;
    const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, this.#offset - before);
    if (bytesRead < before || !buffer.subarray(0, before).equals(this.#tail)) return 'truncated';
    return bytesRead === before ? 'end' : { bytes: buffer.subarray(before, bytesRead) };
  }

  /** The lines that end in these bytes were handed on, by {@link splitter}. */
  taken(bytes: Buffer): void {
    const { pending } = this.splitter;
    if (this.#offset === this.#head.length && this.#head.length < tailSize) {
      this.#head = Buffer.concat([this.#head, bytes.subarray(0, tailSize - this.#head.length)]);
    }
    this.#offset += bytes.length;
    if (pending < bytes.length) {
      const ended = bytes.subarray(0, bytes.length - pending);
      this.#mark = { offset: this.#offset - pending, tail: tailOf(this.#tail, ended) };
    }
    this.#tail = tailOf(this.#tail, bytes);
  }

  /** The same file from its beginning. */
  restart(splitter: LineSplitter): void {
    this.splitter = splitter;
    this.#offset = 0;
    this.#tail = nothing.tail;
    this.#mark = nothing;
    this.#head = nothing.tail;
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

export function keyOf({ dev, ino }: { readonly dev: string | bigint; readonly ino: string | bigint }): string {
  return `${dev}:${ino}`;
}

/** Rejects with {@link NotAFile}, or as open(2) does. */
export async function openFile(path: string): Promise<Opened> {
  // A named pipe that nobody writes to would hang in open(2).
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return { handle, status: await statusOf(handle) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

export async function statusOf(handle: FileHandle): Promise<FileStatus> {
  const status = await handle.stat({ bigint: true });
  if (!status.isFile()) throw new NotAFile(status.isDirectory() ? 'it is a directory' : 'it is no regular file');
  const { dev, ino, size, mtimeNs, birthtimeNs } = status;
  return { dev: String(dev), ino: String(ino), size: Number(size), mtimeNs, birthtimeNs };
}

/** The bytes before `offset`; null when the file is shorter. */
export async function readTail(handle: FileHandle, offset: number, length: number): Promise<Buffer | null> {
  const tail = Buffer.alloc(length);
  const { bytesRead } = await handle.read(tail, 0, length, offset - length);
  return bytesRead === length ? tail : null;
}

/** The last bytes of both; a copy, for buffers are used again. */
function tailOf(before: Buffer, bytes: Buffer): Buffer {
  if (bytes.length >= tailSize) return Buffer.from(bytes.subarray(bytes.length - tailSize));
  const kept = before.subarray(Math.max(0, before.length + bytes.length - tailSize));
  return Buffer.concat([kept, bytes]);
}
