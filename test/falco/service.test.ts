import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lastWords, runProgram } from '../../src/falco/program.ts';
import { awaitHealth, findUnits, requireHealthUrl, restartFalco } from '../../src/falco/service.ts';
import { makeStandIns, type StandIns } from './stand-in.ts';

let folder = '';
let standIns: StandIns;
let server: Server | null = null;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'falcodrop-service-'));
  standIns = makeStandIns(folder, folder);
});
afterEach(() => {
  server?.close();
  server = null;
  rmSync(folder, { recursive: true });
});

const within = () => ({ environment: { ...process.env, ...standIns.environment } });
const quick = { waitMs: 600, steadyMs: 100, steadyAloneMs: 100, everyMs: 10 };

/** Answers one after the other, the last one for ever. */
async function serve(...answers: readonly number[]): Promise<string> {
  let n = 0;
  const made = createServer((_, response) => {
    response.statusCode = answers[Math.min(n++, answers.length - 1)] ?? 200;
    response.end();
  });
  server = made;
  await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(made.address() as AddressInfo).port}/healthz`;
}

describe('which unit', () => {
  const units = (text: string): void => writeFileSync(join(standIns.state, 'units'), text);
  test.each([
    ['falco-modern-bpf.service\n', 'active', ['falco-modern-bpf.service']],
    ['falco-modern-bpf.service\n', 'failed', ['falco-modern-bpf.service']],
    ['falco-kmod.service\nfalco-bpf.service\n', 'active', ['falco-kmod.service', 'falco-bpf.service']],
    ['', 'active', []],
  ])('%j, %s', async (text, active, expected) => {
    units(text);
    writeFileSync(join(standIns.state, 'is-active'), active);
    expect(await findUnits(within())).toEqual(expected);
  });

  test('none without systemd', async () => {
    expect(await findUnits({ environment: { PATH: '/nonexistent' } })).toEqual([]);
  });
});

describe('health', () => {
  const unit = 'falco-modern-bpf.service';
  const service = (healthUrl: string | null, named: string | null = null) => ({
    restart: ['true'] as const,
    unit: named,
    healthUrl,
  });

  test('comes after a while, and must stay', async () => {
    expect(await awaitHealth(service(await serve(503, 503, 200)), within(), quick)).toBeNull();
    expect(await awaitHealth(service(null, unit), within(), { ...quick, waitMs: 5_000 })).toBeNull();
    expect(await awaitHealth(service(null), within(), quick)).toBeNull();
  });

  test('that never comes, or goes again and again, is none', async () => {
    expect(await awaitHealth(service(await serve(503)), within(), quick)).toMatch(/answers with 503, after 0.6 s/);
    server?.close();
    const flapping = Array.from({ length: 2_000 }, (_, i) => (i % 3 === 0 ? 500 : 200));
    expect(await awaitHealth(service(await serve(...flapping)), within(), quick)).toMatch(/after 0.6 s/);
    expect(await awaitHealth(service('http://127.0.0.1:1/'), within(), quick)).toContain('ECONNREFUSED');
  });

  test('of a unit that failed is known at once', async () => {
    writeFileSync(join(standIns.state, 'is-active'), 'failed');
    const begun = performance.now();
    expect(await awaitHealth(service(null, unit), within(), { ...quick, waitMs: 60_000 })).toBe(`${unit} is failed`);
    expect(performance.now() - begun).toBeLessThan(10_000);
  });

  test('is not waited for when it is interrupted', async () => {
    const abort = new AbortController();
    const waiting = awaitHealth(
      service(await serve(503)),
      { ...within(), signal: abort.signal },
      { ...quick, waitMs: 60_000 },
    );
    abort.abort();
    expect(await waiting).toBe('it was interrupted');
  });

  test('a restart that fails says why', async () => {
    expect(await restartFalco({ restart: ['true'], unit: null, healthUrl: null }, within())).toBeNull();
    expect(await restartFalco({ restart: ['/nonexistent/x', 'y'], unit: null, healthUrl: null }, within())).toBe(
      '/nonexistent/x y: there is no such program',
    );
    writeFileSync(join(standIns.state, 'fail-restart'), '');
    expect(await restartFalco({ restart: ['systemctl', 'restart', unit], unit, healthUrl: null }, within())).toMatch(
      /it ended with 1: Job for falco-modern-bpf\.service failed/,
    );
  });

  test('takes URLs', () => {
    expect(requireHealthUrl('http://127.0.0.1:8765/healthz')).toBe('http://127.0.0.1:8765/healthz');
    for (const url of ['', 'x', 'file:///etc/passwd']) {
      expect(() => requireHealthUrl(url)).toThrow(expect.objectContaining({ code: 'usage' }));
    }
  });
});

describe('a program', () => {
  const { environment } = { environment: process.env };
  test('that hangs is ended, and one of its own that holds the pipes with it', async () => {
    const begun = performance.now();
    const ended = await runProgram('sh', ['-c', 'echo here; sleep 60 & wait'], { environment, timeoutMs: 300 });
    expect([ended.status, ended.trouble]).toEqual([null, 'it was not done after 0.3 s, and was ended']);
    expect(performance.now() - begun).toBeLessThan(20_000);
  });

  test('that says too much is heard to its end, and kept in part', async () => {
    const words = ['-c', 'head -c 3000000 /dev/zero; exit 3'];
    const ended = await runProgram('sh', words, { environment, timeoutMs: 20_000, keep: 1_000 });
    expect([ended.status, ended.stdout.length]).toEqual([3, 1_000]);
  });

  test('reads its input, or does not', async () => {
    const input = Buffer.alloc(1 << 20, 'x');
    const running = { environment, timeoutMs: 20_000, input };
    expect((await runProgram('wc', ['-c'], running)).stdout.toString().trim()).toBe(`${1 << 20}`);
    expect((await runProgram('true', [], running)).status).toBe(0);
  });

  test('is told of on one line, without what is right', () => {
    const ended = {
      status: 1,
      trouble: null,
      stdout: Buffer.from('/a: Ok\n/b: Invalid\n'),
      stderr: Buffer.from('Error: /a: Ok\n/b: Invalid\n\n'),
    };
    expect(lastWords(ended)).toBe('it ended with 1: /b: Invalid');
    expect(lastWords({ ...ended, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) })).toBe('it ended with 1');
  });
});
