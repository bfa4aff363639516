/**
 * Loaded before the command (`--import`): measures how long it holds flocks, at the addon, and writes it to LOCK_PROBE at the
 * end. Each hold: ms on the clock, and ms of CPU of this thread, which a busy machine makes no longer.
 */
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

interface Lock {
  release(): void;
}

interface Locks {
  tryLock(...args: readonly unknown[]): Lock | null;
  lock(...args: readonly unknown[]): Promise<Lock | null>;
}

export interface Hold {
  readonly ms: number;
  readonly cpuMs: number;
}

// The command's own: a module of this name is loaded once a process.
const addon = createRequire(import.meta.url)('../dist/falcodrop.node') as Locks;
const { tryLock, lock } = addon;
const holds: Hold[] = [];

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function measured(held: Lock | null): Lock | null {
  if (held === null) return null;
  const [begun, cpu] = [performance.now(), cpuMs()];
  return {
    release: () => {
      held.release();
      holds.push({ ms: performance.now() - begun, cpuMs: cpuMs() - cpu });
    },
  };
}

addon.tryLock = (...args) => measured(tryLock.apply(addon, [...args]));
addon.lock = async (...args) => measured(await lock.apply(addon, [...args]));
process.on('exit', () => writeFileSync(process.env.LOCK_PROBE ?? '/dev/null', JSON.stringify(holds)));
