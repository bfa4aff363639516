/**
 * `falcodrop backup FILE|-`: a copy of the ledger, as one file. The file is made by the caller; what is read from the ledger is
 * read as the service, so root never parses it.
 */
import {
  closeSync,
  constants,
  createReadStream,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { FalcodropError } from '../errors.ts';
import { type Call, flag } from './call.ts';
import { openLedgerAlone } from './ledger.ts';
import { amount } from './output/amount.ts';
import { clean } from './output/clean.ts';

const chunkBytes = 1 << 20;

export async function backupLedger(call: Call): Promise<void> {
  const [file = '-'] = call.operands;
  if (file === '-' && process.stdout.isTTY) {
    throw new FalcodropError(
      'usage',
      'a backup is no text for a terminal',
      'name a file, or take it further: falcodrop backup - | …',
    );
  }
  const output = file === '-' ? null : openOutput(file, flag(call, 'replace'));
  try {
    const { ledger, stateDir, close } = openLedgerAlone(call);
    const copy = join(stateDir, `backup.${process.pid}`);
    try {
      ledger.backup(copy);
      const { claims, history } = ledger.size();
      if (output === null) await toStdout(copy);
      else tell(call, file, copyInto(copy, output), { claims, history });
    } finally {
      rmSync(copy, { force: true });
      close();
    }
  } catch (error) {
    if (output !== null) removeEmpty(file, output);
    throw error;
  } finally {
    if (output !== null) closeSync(output);
  }
}

/** 0600 and the caller's. Throws `ledger_backup`. */
function openOutput(file: string, replace: boolean): number {
  const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NOCTTY | constants.O_NONBLOCK;
  try {
    if (!replace) return openSync(file, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
    const descriptor = openSync(file, flags | constants.O_CREAT, 0o600);
    const status = fstatSync(descriptor);
    if (status.isFile() && (status.mode & 0o077) === 0) return descriptor;
    closeSync(descriptor);
    const why = status.isFile() ? 'others may read or write it, and it will hold everything' : 'it is no regular file';
    throw new FalcodropError('ledger_backup', `no backup is written to ${clean(file)}: ${why}`, 'name another file');
  } catch (error) {
    if (error instanceof FalcodropError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'EEXIST' ? 'it is there already' : code === 'ELOOP' ? 'it is a symbolic link' : message;
    const hint = code === 'EEXIST' ? 'name another file, or say --replace' : 'name another place';
    throw new FalcodropError('ledger_backup', `no backup is written to ${clean(file)}: ${why}`, hint, error);
  }
}

/** The whole copy is there before the first byte of a file that is replaced is touched. Bytes. */
function copyInto(copy: string, output: number): number {
  const input = openSync(copy, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    ftruncateSync(output, 0);
    const chunk = Buffer.allocUnsafe(chunkBytes);
    let written = 0;
    for (;;) {
      const length = readSync(input, chunk, 0, chunk.length, null);
      if (length === 0) break;
      for (let done = 0; done < length; ) done += writeSync(output, chunk, done, length - done, written + done);
      written += length;
    }
    fsyncSync(output);
    return written;
  } catch (error) {
    // Half a backup must not look like one.
    ftruncateSync(output, 0);
    throw error;
  } finally {
    closeSync(input);
  }
}

async function toStdout(copy: string): Promise<void> {
  for await (const chunk of createReadStream(copy)) {
    if (!process.stdout.write(chunk)) await new Promise((resolve) => process.stdout.once('drain', resolve));
  }
}

/** Nothing is left of one that was not written. Root's file can not be removed by the service that this is by now. */
function removeEmpty(file: string, output: number): void {
  try {
    if (fstatSync(output).size === 0) rmSync(file, { force: true });
  } catch {
    // it stays, empty, and restore says so
  }
}

function tell(
  { answer }: Call,
  file: string,
  bytes: number,
  size: { readonly claims: number; readonly history: number },
): void {
  if (answer.json) {
    answer.object({ file, bytes, claims: size.claims, history: size.history });
    return;
  }
  const plural = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;
  answer.line(
    `${clean(file)} written: ${plural(size.claims, 'claim')}, ${plural(size.history, 'row')} of history, ${amount(bytes)} bytes`,
  );
}
