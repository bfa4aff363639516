/** `falcodrop reconcile` as a process of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { FalcodropError } from '../errors.ts';
import type { Call } from './call.ts';
import type { Restored } from './reconcile.ts';
import { namedConfig } from './settings.ts';

export interface Reconciled {
  /** Null: it ended before it could tell. */
  readonly restored: Restored | null;
  readonly notes: readonly string[];
  /** Why it did not do all of it; null: it did. */
  readonly failure: FalcodropError | null;
}

/**
 * For the daemon, whose event loop has alerts to take while SQLite reads a million claims, and for `attach`, which stays root
 * while the child becomes the service. An aborted `signal` ends the child, which may be ended anywhere. Does not reject.
 */
export async function runReconcile(call: Call, signal?: AbortSignal): Promise<Reconciled> {
  const [, script = ''] = process.argv;
  const file = namedConfig(call);
  const named = file === undefined ? [] : ['--config', file];
  const child = spawn(process.execPath, [...process.execArgv, script, 'reconcile', ...named], {
    env: call.environment,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const end = (): void => void child.kill('SIGKILL');
  signal?.addEventListener('abort', end);
  if (signal?.aborted === true) end();
  const said: Buffer[] = [];
  let restored: Restored | null = null;
  child.stderr?.on('data', (bytes: Buffer) => said.push(bytes));
  child.on('message', (message) => {
    restored = restoredOf(message);
  });
  const [status] = (await once(child, 'close')) as [number | null];
  signal?.removeEventListener('abort', end);
  const lines = Buffer.concat(said).toString().trim().split('\n');
  const words = lines.join('; ');
  const notes = lines.filter((line) => line.startsWith('note: ')).map((line) => line.slice('note: '.length));
  const failure =
    status === 0 ? null : new FalcodropError('failed', `"falcodrop reconcile" ended with ${status}: ${words}`);
  return { restored, notes, failure };
}

/** By then the child is another user: what it says is taken for what it must be, or not at all. */
function restoredOf(message: unknown): Restored | null {
  if (typeof message !== 'object' || message === null) return null;
  const { claims, forced, refused, refusals, isNew } = message as Readonly<Record<string, unknown>>;
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
  if (!isCount(claims) || !isCount(forced) || !isCount(refused) || !Array.isArray(refusals)) return null;
  const words = refusals.filter((word): word is string => typeof word === 'string');
  return { claims, forced, refused, refusals: words, isNew: isNew === true };
}
