/**
 * `falcodrop restore FILE`: the ledger becomes what a backup holds. The file is opened by the caller, and parsed as the service,
 * from a copy in the state directory: it is checked, and migrated where it is older, before anything is changed.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ledgerPath, type Service } from '../blocklist/ledger/files.ts';
import { Ledger, type LedgerSize } from '../blocklist/ledger/ledger.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { Audit } from '../observe/audit.ts';
import { type Call, flag } from './call.ts';
import { unreadable } from './input.ts';
import { openLedgerAlone } from './ledger.ts';
import { removeCopies } from './leftover.ts';
import { clean } from './output/clean.ts';
import { ask } from './question.ts';

const chunkBytes = 1 << 20;

export async function restoreLedger(call: Call): Promise<void> {
  const { answer } = call;
  const [file = ''] = call.operands;
  const input = openBackup(file);
  try {
    const { ledger, stateDir, service, who, close } = openLedgerAlone(call, { create: true });
    const folder = join(stateDir, `restore.${process.pid}`);
    try {
      removeCopies(stateDir);
      const held = check(copyOf(input, folder), folder, file, service);
      fault('restore.checked');
      const now = ledger.size();
      const isDryRun = flag(call, 'dryRun');
      if (!isDryRun) {
        if (now.claims > 0) {
          await ask(call, `Replace the ${now.claims} claims of the ledger by the ${held.claims} of the backup?`);
        }
        const row = named(file, folder, () => ledger.restore(ledgerPath(folder), file));
        const audit = new Audit({ stateDir, service, onTrouble: (message) => answer.note(message) });
        audit.tellRootAct({ action: 'restored', detail: `${held.claims} claims from ${file}`, row, hand: who });
        await audit.close();
      }
      tell(call, file, held, now, isDryRun);
    } finally {
      rmSync(folder, { recursive: true, force: true });
      close();
    }
  } finally {
    closeSync(input);
  }
}

function openBackup(file: string): number {
  try {
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    if (fstatSync(descriptor).isFile()) return descriptor;
    closeSync(descriptor);
  } catch (error) {
    throw unreadable(file, error);
  }
  throw new FalcodropError('file_unreadable', `${clean(file)}: it is no regular file`, 'name a backup');
}

/** A state directory of its own, with the backup as its ledger; the folder. */
function copyOf(input: number, folder: string): string {
  mkdirSync(folder, { mode: 0o700 });
  fault('restore.begun');
  const output = openSync(ledgerPath(folder), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    const chunk = Buffer.allocUnsafe(chunkBytes);
    for (let at = 0; ; ) {
      const length = readSync(input, chunk, 0, chunk.length, at);
      if (length === 0) break;
      for (let done = 0; done < length; ) done += writeSync(output, chunk, done, length - done, at + done);
      at += length;
    }
    fault('restore.copied');
    return folder;
  } finally {
    closeSync(output);
  }
}

/** Opens it as a ledger, reads all of it, and migrates it. */
function check(stateDir: string, folder: string, file: string, service: Service): LedgerSize {
  return named(file, folder, () => {
    if (fstatSizeOf(ledgerPath(stateDir)) === 0) {
      throw new FalcodropError('ledger_not_database', `${clean(file)} is empty`, 'name a backup');
    }
    const copy = Ledger.open(stateDir, { service, create: false });
    try {
      copy.check();
      return copy.size();
    } finally {
      copy.close();
    }
  });
}

function fstatSizeOf(path: string): number {
  const descriptor = openSync(path, constants.O_RDONLY);
  try {
    return fstatSync(descriptor).size;
  } finally {
    closeSync(descriptor);
  }
}

/** Errors speak of the file that was named, not of its copy, and not of drops that go on or a ledger to move aside. */
function named<T>(file: string, folder: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    const message = error.message.replaceAll(ledgerPath(folder), clean(file)).replace(/^the ledger /, 'the backup ');
    throw new FalcodropError(error.code, message, 'nothing was changed; name another backup', error);
  }
}

function tell({ answer }: Call, file: string, held: LedgerSize, before: LedgerSize, isDryRun: boolean): void {
  if (answer.json) {
    answer.object({
      file,
      status: isDryRun ? 'unchanged' : 'restored',
      claims: held.claims,
      history: held.history,
      claims_before: before.claims,
      history_before: before.history,
      dry_run: isDryRun,
    });
    return;
  }
  const what = `${held.claims} claims and ${held.history} rows of history of ${clean(file)}`;
  const old = `${before.claims} claims and ${before.history} rows`;
  if (isDryRun) {
    answer.line(`would replace ${old} by ${what}`);
    return;
  }
  answer.line(`restored: ${what}, instead of ${old}`);
  answer.note('drops go on as they were: make the maps equal with falcodrop reconcile');
}
