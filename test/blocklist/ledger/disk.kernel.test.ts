/** What needs root: a full disk, a read-only one, and users that share a ledger. Mounts are made in mount namespaces of their own. */
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { formatPrefix } from '../../../src/address/prefix.ts';
import { ledgerPath } from '../../../src/blocklist/ledger/files.ts';
import { failureOf } from './failed.ts';
import { freshStateDir, openLedger } from './place.ts';

const write = fileURLToPath(new URL('fixtures/write.ts', import.meta.url));
const disk = fileURLToPath(new URL('fixtures/disk.ts', import.meta.url));

/** Runs `script` with sh where its mounts are nobody else's; "$@" is Node and its arguments. */
function inOwnMounts(script: string, ...args: readonly string[]): SpawnSyncReturns<string> {
  return spawnSync(
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', process.execPath, ...args],
    {
      encoding: 'utf8',
    },
  );
}

describe('a disk', () => {
  test('that is full: nothing acknowledged is lost, and it goes on when there is room', () => {
    const place = dirname(freshStateDir());
    const run = inOwnMounts('mount -t tmpfs -o size=1m,mode=755 fd-ledger "$3" && exec "$@"', disk, place);
    expect(run.stderr).toBe('');
    const { codes, acknowledged, found, after } = JSON.parse(run.stdout) as Record<string, unknown>;
    expect(codes).toEqual(['ledger_full']);
    expect(acknowledged).toBeGreaterThan(5);
    expect(found).toBe(acknowledged);
    expect(after).toBe(Number(acknowledged) + 1);
  });

  test('that is full from the beginning', () => {
    const stateDir = freshStateDir();
    const script = 'mount -t tmpfs -o size=16k,mode=755 fd-ledger "$(dirname "$3")" && exec "$@"';
    const run = inOwnMounts(script, write, stateDir, '0', '0', '1', '1');
    expect(run.stderr).toMatch(/^ledger_full /);
  });

  test('that is read-only', () => {
    const stateDir = freshStateDir();
    openLedger(stateDir).close();
    const script = 'mount --bind "$3" "$3" && mount -o remount,bind,ro "$3" && exec "$@"';
    const run = inOwnMounts(script, write, stateDir, '0', '0', '1', '1');
    expect(run.stderr).toMatch(/^ledger_read_only /);
    const fresh = freshStateDir();
    mkdirSync(fresh);
    expect(inOwnMounts(script, write, fresh, '0', '0', '1', '1').stderr).toMatch(/^ledger_read_only /);
  });
});

const serviceId = 54_321;
const memberId = 54_322;
const strangerId = 54_323;

const identities = {
  root: [] as readonly string[],
  service: [`--reuid=${serviceId}`, `--regid=${serviceId}`, '--clear-groups'],
  member: [`--reuid=${memberId}`, `--regid=${memberId}`, `--groups=${serviceId}`],
  stranger: [`--reuid=${strangerId}`, `--regid=${strangerId}`, '--clear-groups'],
} as const;

function commandOf(
  who: keyof typeof identities,
  stateDir: string,
  name: number,
  count: number | null,
): [string, string[]] {
  const args = [write, stateDir, `${serviceId}`, `${serviceId}`, `${name}`, ...(count === null ? [] : [`${count}`])];
  return ['setpriv', [...identities[who], '--inh-caps=-all', process.execPath, ...args]];
}

function run(who: keyof typeof identities, stateDir: string, name: number, umask: string): SpawnSyncReturns<string> {
  const [command, args] = commandOf(who, stateDir, name, 5);
  return spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, FD_UMASK: umask } });
}

/** Killed after its third commit. */
async function runAndKill(who: keyof typeof identities, stateDir: string, name: number, umask: string): Promise<void> {
  const [command, args] = commandOf(who, stateDir, name, null);
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, FD_UMASK: umask },
  });
  const closed = once(child, 'close');
  let out = '';
  child.stdout.on('data', (data) => {
    out += String(data);
    if (out.includes('\n2\n')) child.kill('SIGKILL');
  });
  await closed;
  expect(out).toContain('\n2\n');
}

/** One where other users may come to. */
function sharedStateDir(): string {
  const stateDir = freshStateDir();
  chmodSync(dirname(stateDir), 0o755);
  return stateDir;
}

describe('root, the service and a member of its group', () => {
  const orders = [
    ['root', 'service', 'member'],
    ['service', 'member', 'root'],
  ] as const;
  test.each(['022', '077'].flatMap((umask) => orders.map((order) => [umask, order] as const)))(
    'work on one ledger (umask %s, %s), also after each was killed',
    async (umask, order) => {
      const stateDir = sharedStateDir();
      if (order[0] === 'service') {
        // what root's part, or systemd, has made for it
        mkdirSync(stateDir);
        chownSync(stateDir, serviceId, serviceId);
      }
      let name = 0;
      for (const who of order) {
        const result = run(who, stateDir, name++, umask);
        expect([who, result.status, result.stderr]).toEqual([who, 0, '']);
      }
      for (const killed of order) {
        await runAndKill(killed, stateDir, name++, umask);
        for (const who of order) {
          const result = run(who, stateDir, name++, umask);
          expect([killed, who, result.status, result.stderr]).toEqual([killed, who, 0, '']);
        }
      }
      const { uid, gid, mode } = statSync(ledgerPath(stateDir));
      expect([uid, gid, (mode & 0o777).toString(8)]).toEqual([serviceId, serviceId, '660']);
      const ledger = openLedger(stateDir, { service: { uid: serviceId, gid: serviceId } });
      ledger.check();
      const found = new Set([...ledger.claims()].map(({ target }) => formatPrefix(target)));
      // twelve times five, and three killed after their third
      expect(found.size).toBeGreaterThanOrEqual(12 * 5 + 3 * 3);
    },
  );

  test('nobody else gets in', () => {
    const stateDir = sharedStateDir();
    expect(run('root', stateDir, 0, '022').stderr).toBe('');
    expect(run('stranger', stateDir, 1, '022').stderr).toMatch(/^not_permitted /);
  });

  test('a member does not begin a ledger, and a stranger’s directory is refused', () => {
    const stateDir = sharedStateDir();
    mkdirSync(stateDir, { mode: 0o770 });
    chownSync(stateDir, serviceId, serviceId);
    expect(run('member', stateDir, 1, '022').stderr).toMatch(/^ledger_missing /);
    chownSync(stateDir, strangerId, serviceId);
    const service = { uid: serviceId, gid: serviceId };
    const error = failureOf(() => openLedger(stateDir, { service }));
    expect([error.code, error.message]).toEqual(['ledger_unsafe_path', expect.stringContaining(`${strangerId}`)]);
    chownSync(stateDir, serviceId, serviceId);
    chownSync(dirname(stateDir), strangerId, strangerId);
    expect(failureOf(() => openLedger(stateDir, { service })).code).toBe('ledger_unsafe_path');
  });
});
