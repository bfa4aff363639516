/** `falcodrop reconcile` as a process of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { FalcodropError } from '../errors.ts';
import type { Call } from './call.ts';
import { namedConfig } from './settings.ts';

/**
 * For the daemon, whose event loop has alerts to take while SQLite reads a million claims, and for `attach`, which stays root
 * while the child becomes the service. Resolves to its notes. Throws `failed` with its words.
 */
export async function runReconcile(call: Call): Promise<readonly string[]> {
  const [, script = ''] = process.argv;
  const file = namedConfig(call);
  const named = file === undefined ? [] : ['--config', file];
  const child = spawn(process.execPath, [script, 'reconcile', ...named], {
    env: call.environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const said: Buffer[] = [];
  child.stderr.on('data', (bytes: Buffer) => said.push(bytes));
  const [status] = (await once(child, 'close')) as [number | null];
  const lines = Buffer.concat(said).toString().trim().split('\n');
  const words = lines.join('; ');
  if (status !== 0) throw new FalcodropError('failed', `"falcodrop reconcile" ended with ${status}: ${words}`);
  return lines.filter((line) => line.startsWith('note: ')).map((line) => line.slice('note: '.length));
}
