/** Files that the caller names, "-" for stdin. */
import { createReadStream } from 'node:fs';
import { FalcodropError } from '../errors.ts';
import { clean } from './output/clean.ts';

export function openInput(name: string): NodeJS.ReadableStream {
  return name === '-' ? process.stdin : createReadStream(name);
}

/** A failure of opening or reading as `file_unreadable`; others as they are. */
export function unreadable(name: string, error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined || error instanceof FalcodropError) return error;
  const what = name === '-' ? 'stdin' : name;
  const known: Readonly<Record<string, readonly [why: string, hint: string]>> = {
    ENOENT: ['there is no such file', 'name one that is there, or - for stdin'],
    EACCES: ['it may not be read by this user', 'hand it over as stdin: sudo cat FILE | falcodrop … -'],
    EISDIR: ['it is a directory', 'name a file in it'],
  };
  const [why, hint] = known[code] ?? [message, undefined];
  return new FalcodropError('file_unreadable', `${clean(what)}: ${why}`, hint, error);
}
