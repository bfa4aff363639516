import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { formatPrefix } from '../../../src/address/prefix.ts';
import type { Ledger } from '../../../src/blocklist/ledger/ledger.ts';
import { freshStateDir, openLedger, self } from './place.ts';

const fixture = fileURLToPath(new URL('fixtures/write.ts', import.meta.url));

interface Writing {
  readonly child: ChildProcess;
  /** The last number that was acknowledged, -1 before the first. */
  readonly last: () => number;
  readonly errors: () => string;
  readonly reaches: (n: number) => Promise<void>;
  readonly ends: () => Promise<void>;
}

function startWriting(stateDir: string, name: number, count?: number): Writing {
  const args = [
    fixture,
    stateDir,
    `${self.uid}`,
    `${self.gid}`,
    `${name}`,
    ...(count === undefined ? [] : [`${count}`]),
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let out = '';
  let errors = '';
  const last = (): number => Number(out.slice(0, out.lastIndexOf('\n')).split('\n').at(-1) || -1);
  const closed = once(child, 'close');
  child.stderr?.on('data', (data) => {
    errors += String(data);
  });
  let onData = (): void => undefined;
  child.stdout?.on('data', (data) => {
    out += String(data);
    onData();
  });
  return {
    child,
    last,
    errors: () => errors,
    reaches: (n) =>
      new Promise((resolve, reject) => {
        onData = () => {
          if (last() >= n) resolve();
        };
        child.once('close', () => (last() >= n ? resolve() : reject(new Error(`it ended at ${last()}: ${errors}`))));
        onData();
      }),
    ends: async () => void (await closed),
  };
}

function claimsByTarget(ledger: Ledger): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { target, owner } of ledger.claims()) {
    const text = formatPrefix(target);
    found.set(text, [...(found.get(text) ?? []), owner]);
  }
  return found;
}

const whole = ['feed:x', 'hand', 'policy:a'];

describe('processes', () => {
  test('begin one ledger and write it at once', async () => {
    const stateDir = freshStateDir();
    const writers = [1, 2, 3, 4].map((name) => startWriting(stateDir, name, 60));
    await Promise.all(writers.map((writer) => writer.ends()));
    expect(writers.map((writer) => [writer.child.exitCode, writer.errors()])).toEqual(writers.map(() => [0, '']));
    const ledger = openLedger(stateDir);
    const found = claimsByTarget(ledger);
    expect(found.size).toBe(240);
    for (const owners of found.values()) expect(owners).toEqual(whole);
    expect(ledger.size().history).toBe(720);
    ledger.check();
  });

  test('killed in the middle of a commit leave all that was acknowledged, and nothing half', async () => {
    const stateDir = freshStateDir();
    const acknowledged: number[] = [];
    for (let name = 0; name < 8; name++) {
      const writer = startWriting(stateDir, name);
      // After another number each time: not always at the same step of a commit.
      await writer.reaches(3 + name * 7);
      writer.child.kill('SIGKILL');
      await writer.ends();
      acknowledged.push(writer.last());
    }
    const ledger = openLedger(stateDir);
    ledger.check();
    const found = claimsByTarget(ledger);
    for (const [name, last] of acknowledged.entries()) {
      for (let n = 0; n <= last; n++)
        expect(found.get(`10.${name}.${n >> 8}.${n & 255}`), `${name} ${n}`).toEqual(whole);
      // One more may have been on the disk before it was told.
      const all = [...found.keys()].filter((target) => target.startsWith(`10.${name}.`)).length;
      expect(all - (last + 1)).toBeLessThanOrEqual(1);
    }
    for (const owners of found.values()) expect(owners).toEqual(whole);
    expect(ledger.size().history).toBe(found.size * 3);
  });
});
