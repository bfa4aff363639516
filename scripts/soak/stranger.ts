/** Somebody else who holds a lock for a while: what an operator's shell, a backup program or a hung process does. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { Lab } from '../../test/kernel/lab.ts';

export interface Stranger {
  readonly child: ChildProcess;
  /** It has the lock. */
  readonly holds: Promise<void>;
}

/** flock on a directory, for some seconds. */
export function holdDirectory(lab: Lab, directory: string, seconds: number): Stranger {
  const script = `echo held; exec sleep ${seconds}`;
  return heard(
    lab.spawn(null, ['flock', '-x', directory, 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
}

/** The write lock of a database, in a transaction that is never committed, by the user that `as` makes it. */
export function holdDatabase(
  lab: Lab,
  { file, seconds, tree, as }: { file: string; seconds: number; tree: string; as: readonly string[] },
): Stranger {
  const script = `
    const Database = require(${JSON.stringify(join(tree, 'node_modules/better-sqlite3'))});
    const database = new Database(${JSON.stringify(file)}, { fileMustExist: true, timeout: 10_000 });
    database.exec('BEGIN IMMEDIATE');
    console.log('held');
    setTimeout(() => process.exit(), ${seconds * 1000});`;
  const argv = ['setpriv', ...as, process.execPath, '-e', script] as const;
  return heard(lab.spawn(null, [...argv] as [string, ...string[]], { stdio: ['ignore', 'pipe', 'inherit'] }));
}

function heard(child: ChildProcess): Stranger {
  const holds = new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('close', () => reject(new Error('a stranger ended before it had its lock')));
  });
  // Who does not wait for it must not die of it.
  holds.catch(() => undefined);
  return { child, holds };
}
