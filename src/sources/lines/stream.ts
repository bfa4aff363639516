/** Lines of what has an end: stdin, and a file that is read once. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { FalcodropError } from '../../errors.ts';
import { Feed, type FeedOptions } from './feed.ts';

/** Bytes read at once. */
const pieceSize = 256 << 10;

export interface StreamSource {
  /** Resolves when every line is queued, the last one too if it has no end. Rejects with `file_unreadable`. */
  readonly ended: Promise<void>;
  /** Reads no more; resolves when what was read is queued. */
  readonly stop: () => Promise<void>;
}

/** `name` is for messages. */
export function readStream(stream: Readable, name: string, options: FeedOptions): StreamSource {
  const feed = new Feed(options);
  const splitter = feed.splitter();
  let isStopped = false;
  const { standing } = options;
  standing?.is('reading');
  const read = async (): Promise<void> => {
    try {
      for await (const piece of stream as AsyncIterable<Buffer | string>) {
        await feed.take(splitter, typeof piece === 'string' ? Buffer.from(piece) : piece);
      }
    } catch (error) {
      if (isStopped) return;
      // What came before it was whole lines of alerts.
      standing?.is('failed');
      throw unreadable(name, error);
    }
    if (!isStopped) await feed.end(splitter);
    standing?.is('ended');
  };
  const ended = read();
  return {
    ended,
    stop: async () => {
      isStopped = true;
      stream.destroy();
      await ended.catch(() => undefined);
    },
  };
}

/** A regular file from its beginning to its end. Rejects with `file_unreadable`. */
export async function readFileOnce(path: string, options: FeedOptions): Promise<StreamSource> {
  let handle: FileHandle;
  try {
    // A named pipe that nobody writes to would hang in open(2).
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw unreadable(path, error);
  }
  const status = await handle.stat();
  if (!status.isFile()) {
    await handle.close();
    throw status.isDirectory()
      ? unreadable(path, Object.assign(new Error('it is a directory'), { code: 'EISDIR' }))
      : new FalcodropError(
          'file_unreadable',
          `${path}: it is no regular file`,
          'pipe it in: … | falcodrop run --stdin',
        );
  }
  return readStream(handle.createReadStream({ highWaterMark: pieceSize }), path, options);
}

const known: Readonly<Record<string, readonly [why: string, hint: string]>> = {
  ENOENT: ['there is no such file', 'name one that is there, or follow it: then it may come later'],
  EACCES: ['it may not be read by this user', 'let the service’s group read it, or hand it over as stdin'],
  EISDIR: ['it is a directory', 'name a file in it'],
};

function unreadable(name: string, error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined || error instanceof FalcodropError) return error;
  const [why, hint] = known[code] ?? [message, undefined];
  return new FalcodropError('file_unreadable', `${name}: ${why}`, hint, error);
}
