/**
 * `falcodrop backup FILE|-`: a copy of the ledger, as one file. The file is the caller's: made under another name beside it, and
 * renamed when it is whole, so that a failure leaves what was there before. What is read from the ledger is read as the service,
 * so root never parses it; and who has become the service can not take root's file away again. So a backup into a file has
 * the copy handed over by a process of its own: `backup -`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  createReadStream,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { type ErrorCode, exitStatusOf, FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { type Call, flag } from './call.ts';
import { openLedgerAlone } from './ledger.ts';
import { removeCopies } from './leftover.ts';
import { amount, plural } from './output/amount.ts';
import { clean } from './output/clean.ts';

interface Size {
  readonly claims: number;
  readonly history: number;
}

export async function backupLedger(call: Call): Promise<void> {
  const [file = '-'] = call.operands;
  if (file === '-') await toStdout(call);
  else await toFile(call, file);
}

async function toStdout(call: Call): Promise<void> {
  if (process.stdout.isTTY) {
    throw new FalcodropError(
      'usage',
      'a backup is no text for a terminal',
      'name a file, or take it further: falcodrop backup - | …',
    );
  }
  const { ledger, stateDir, close } = openLedgerAlone(call);
  const copy = join(stateDir, `backup.${process.pid}`);
  try {
    removeCopies(stateDir);
    ledger.backup(copy);
    fault('backup.copied');
    const { claims, history } = ledger.size();
    // Whole before its first byte goes out.
    for await (const chunk of createReadStream(copy)) {
      if (!process.stdout.write(chunk)) await once(process.stdout, 'drain');
    }
    if (process.send !== undefined && process.connected) process.send({ claims, history } satisfies Size);
  } finally {
    rmSync(copy, { force: true });
    close();
  }
}

async function toFile(call: Call, file: string): Promise<void> {
  const replace = flag(call, 'replace');
  requireFree(file, replace);
  const fresh = `${file}.${process.pid}.new`;
  const output = make(fresh, file);
  let size: Size & { readonly bytes: number };
  try {
    try {
      size = await copyInto(call, output);
      fsyncSync(output);
      fault('backup.written');
    } finally {
      closeSync(output);
    }
    if (replace) renameSync(fresh, file);
    else linkSync(fresh, file);
    fault('backup.named');
  } catch (error) {
    throw error instanceof FalcodropError ? error : unwritable(file, error);
  } finally {
    rmSync(fresh, { force: true });
  }
  tell(call, file, size.bytes, size);
}

/** Throws `ledger_backup`. */
function requireFree(file: string, replace: boolean): void {
  const status = lstatSync(file, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!replace) throw unwritable(file, Object.assign(new Error(), { code: 'EEXIST' }));
  if (status.isFile() && (status.mode & 0o077) === 0) return;
  const why = status.isSymbolicLink()
    ? 'it is a symbolic link'
    : status.isFile()
      ? 'others may read or write it, and it will hold everything'
      : 'it is no regular file';
  throw new FalcodropError('ledger_backup', `no backup is written to ${clean(file)}: ${why}`, 'name another file');
}

/** 0600 and the caller's. Throws `ledger_backup`. */
function make(fresh: string, file: string): number {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return openSync(fresh, flags, 0o600);
  } catch (error) {
    throw unwritable(file, error);
  }
}

function unwritable(file: string, error: unknown): FalcodropError {
  const { code, message } = error as NodeJS.ErrnoException;
  const isThere = code === 'EEXIST';
  return new FalcodropError(
    'ledger_backup',
    `no backup is written to ${clean(file)}: ${isThere ? 'it is there already' : message}`,
    isThere ? 'name another file, or say --replace' : 'name another place',
    error,
  );
}

/** Throws what the child failed with. */
async function copyInto(call: Call, output: number): Promise<Size & { readonly bytes: number }> {
  const [, script = ''] = process.argv;
  const child = spawn(process.execPath, [script, 'backup', '-', '--json'], {
    env: call.environment,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let size: Size | null = null;
  child.on('message', (message) => {
    size = sizeOf(message);
  });
  const said: Buffer[] = [];
  child.stderr?.on('data', (bytes: Buffer) => said.push(bytes));
  const closed = once(child, 'close') as Promise<[number | null]>;
  let bytes = 0;
  try {
    for await (const chunk of child.stdout as Readable as AsyncIterable<Buffer>) {
      for (let done = 0; done < chunk.length; ) done += writeSync(output, chunk, done);
      bytes += chunk.length;
      fault('backup.begun');
    }
  } catch (error) {
    child.kill('SIGKILL');
    await closed;
    throw error;
  }
  const [status] = await closed;
  if (status === 0 && size !== null) return { ...(size as Size), bytes };
  throw failureIn(Buffer.concat(said).toString(), status);
}

/** By then the child is another user. */
function sizeOf(message: unknown): Size | null {
  const { claims, history } = (message ?? {}) as Readonly<Record<string, unknown>>;
  return Number.isSafeInteger(claims) && Number.isSafeInteger(history)
    ? { claims: Number(claims), history: Number(history) }
    : null;
}

/** Its last error object, as our own. */
function failureIn(said: string, status: number | null): FalcodropError {
  try {
    const { code, message, hint } = JSON.parse(said.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
    if (typeof code === 'string' && Object.hasOwn(exitStatusOf, code) && typeof message === 'string') {
      return new FalcodropError(code as ErrorCode, message, typeof hint === 'string' ? hint : undefined);
    }
  } catch {
    // no words of ours
  }
  return new FalcodropError('failed', `the process that reads the ledger ended with ${status}: ${said.trim()}`);
}

function tell({ answer }: Call, file: string, bytes: number, size: Size): void {
  if (answer.json) {
    answer.object({ file, bytes, claims: size.claims, history: size.history });
    return;
  }
  answer.line(
    `${clean(file)} written: ${plural(size.claims, 'claim')}, ${plural(size.history, 'row')} of history, ${amount(bytes)} bytes`,
  );
}
