/** The block list on pinned maps. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist, type Book } from '../../src/blocklist/blocklist.ts';
import { noBook } from '../../src/blocklist/claims.ts';
import { FalcodropError } from '../../src/errors.ts';
import { attach, detach, u32 } from '../../src/kernel/attach.ts';
import { encodeSettings, FALCODROP_FORMAT } from '../../src/kernel/layout.ts';
import { native } from '../../src/kernel/native.ts';
import { ended, type Lab, until } from '../kernel/lab.ts';
import { byTest } from './cause.ts';
import { holdLock, sharedPinned, wish, withPinned } from './pinned.ts';

const targets = ['198.51.100.66', '2001:db8::66', '198.51.100.0/24', '2001:db8::/32', '0.0.0.0/0', '::/0'];

/** The FalcodropError that a call must end in. */
async function refusal(work: () => unknown): Promise<FalcodropError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof FalcodropError) return error;
    throw error;
  }
  throw new Error('it was expected to be refused');
}

describe('block and unblock', () => {
  const withPinned = sharedPinned();

  it('of every kind of target', () =>
    withPinned(async ({ list }) => {
      for (const target of targets) {
        const at = parsePrefix(target);
        expect(await list.block(wish(target, 100)), target).toMatchObject({
          status: 'blocked',
          entry: { state: 'enforce', owners: ['hand'], packets: 0, lastSeenSecondsAgo: null, countSeconds: 0 },
        });
        expect((await list.block(wish(target, 50))).status).toBe('unchanged');
        const extended = await list.block(wish(target, 200, { owner: 'policy:a' }));
        expect(extended).toMatchObject({ status: 'extended', entry: { owners: ['hand', 'policy'] } });
        expect(extended.entry.dropSeconds).toBeGreaterThan(195);
        const replaced = await list.block(wish(target, 20), { replace: true });
        expect(replaced.status).toBe('replaced');
        expect(replaced.entry.dropSeconds).toBeLessThanOrEqual(20);
        expect((await list.block(wish(target, null))).entry.dropSeconds).toBeNull();
        expect((await list.block(wish(target, 100))).status).toBe('unchanged');
        expect(await list.unblock(at, { cause: byTest })).toMatchObject({
          before: { state: 'enforce', dropSeconds: null },
          remaining: [],
        });
        expect((await list.unblock(at, { cause: byTest })).before).toBeNull();
      }
      expect([...list.entries()]).toEqual([]);
      expect([list.set.hintsPrefixes(4), list.set.hintsPrefixes(6)]).toEqual([false, false]);
    }));

  it('enforce outranks monitor, each to its own end', () =>
    withPinned(async ({ list }) => {
      for (const target of targets) {
        expect(await list.block(wish(target, 300, { mode: 'monitor' }))).toMatchObject({
          status: 'blocked',
          entry: { state: 'monitor', dropSeconds: 0 },
        });
        const both = await list.block(wish(target, 100));
        expect(both).toMatchObject({ status: 'extended', entry: { state: 'enforce' } });
        expect(both.entry.dropSeconds).toBeLessThanOrEqual(100);
        expect(both.entry.countSeconds).toBeGreaterThan(295);
        expect((await list.block(wish(target, 200, { mode: 'monitor' }))).status).toBe('unchanged');
      }
    }));

  it('an ended entry is blocked anew, with and without replace', () =>
    withPinned(async ({ list }) => {
      for (const target of targets) {
        for (const replace of [false, true]) {
          await list.block(wish(target, 0.001, { owner: 'feed:x' }), { replace: true });
          await until('the end', () => list.covering(parsePrefix(target))[0]?.state === 'ended');
          expect(await list.block(wish(target, 60), { replace }), `${target} ${replace}`).toMatchObject({
            status: 'blocked',
            entry: { owners: ['hand'], state: 'enforce' },
          });
        }
      }
    }));

  it('a prefix inside a blocked one is an entry of its own', () =>
    withPinned(async ({ list }) => {
      await list.block(wish('10.0.0.0/8', 7200));
      expect((await list.unblock(parsePrefix('10.1.0.0/16'), { cause: byTest })).before).toBeNull();
      expect((await list.block(wish('10.1.0.0/16', 60), { replace: true })).status).toBe('blocked');
      expect((await list.block(wish('10.1.0.0/16', 600))).status).toBe('extended');
      expect([...list.entries()].map(({ target, dropSeconds }) => [formatPrefix(target), dropSeconds])).toEqual([
        ['10.1.0.0/16', expect.closeTo(600, -1)],
        ['10.0.0.0/8', expect.closeTo(7200, -1)],
      ]);
    }));

  it('the book hears of each, after the map is written and before it is emptied', () =>
    withPinned(async ({ lab }) => {
      const heard: string[] = [];
      const book: Book = {
        ...noBook,
        record: (events) => {
          for (const event of events) {
            if (event.target === null) continue;
            const there = list.set.lookup(event.target) === null ? 'not there' : 'there';
            heard.push(`${event.kind} ${formatPrefix(event.target)} ${there}`);
          }
          return [];
        },
      };
      const list = Blocklist.open(lab.pinDir, { book });
      await list.block(wish('198.51.100.66'));
      await list.unblock(parsePrefix('198.51.100.66'), { cause: byTest });
      await list.unblock(parsePrefix('198.51.100.67'), { cause: byTest });
      list.close();
      expect(heard).toEqual(['wish 198.51.100.66 there', 'withdraw 198.51.100.66 there']);
    }));

  it('shows what covers a target, the most exact first', () =>
    withPinned(async ({ list }) => {
      for (const target of ['0.0.0.0/0', '198.51.100.0/24', '198.51.100.64/26', '198.51.100.66', '198.51.101.0/24']) {
        await list.block(wish(target));
      }
      await list.block(wish('2001:db8::/32'));
      const covering = (target: string) =>
        list.covering(parsePrefix(target)).map((entry) => formatPrefix(entry.target));
      expect(covering('198.51.100.66')).toEqual(['198.51.100.66', '198.51.100.64/26', '198.51.100.0/24', '0.0.0.0/0']);
      expect(covering('198.51.100.67')).toEqual(['198.51.100.64/26', '198.51.100.0/24', '0.0.0.0/0']);
      expect(covering('198.51.100.64/26')).toEqual(['198.51.100.64/26', '198.51.100.0/24', '0.0.0.0/0']);
      expect(covering('198.51.100.0/25')).toEqual(['198.51.100.0/24', '0.0.0.0/0']);
      expect(covering('203.0.113.1')).toEqual(['0.0.0.0/0']);
      expect(covering('2001:db8::1')).toEqual(['2001:db8::/32']);
      expect(covering('2001:db9::1')).toEqual([]);
    }));

  it('reaps what has ended and nothing else', () =>
    withPinned(async ({ list }) => {
      const many = Array.from({ length: 700 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
      for (const target of [...many, '10.1.0.0/16', '2001:db8::1']) await list.block(wish(target, 0.001));
      for (const target of ['10.2.0.1', '10.3.0.0/16', '2001:db8::/32']) await list.block(wish(target));
      await until('the ends', () => [...list.entries()].filter(({ state }) => state === 'ended').length === 702);
      expect(list.set.hintsPrefixes(4)).toBe(true);
      expect(await list.reap()).toBe(702);
      expect([...list.entries()].map(({ target }) => formatPrefix(target)).sort()).toEqual([
        '10.2.0.1',
        '10.3.0.0/16',
        '2001:db8::/32',
      ]);
      expect([list.set.hintsPrefixes(4), list.set.hintsPrefixes(6)]).toEqual([true, true]);
      expect(await list.reap()).toBe(0);
    }));
});

describe('a full map', () => {
  const withPinned = sharedPinned({ sizes: { addresses: 8, prefixes: 8 } });

  const rows = [
    ['addresses, IPv4', (i: number) => `10.0.0.${i}`, 'blocked_v4'],
    ['addresses, IPv6', (i: number) => `2001:db8::${i + 1}`, 'blocked_v6'],
    ['prefixes, IPv4', (i: number) => `10.${i}.0.0/16`, 'blocked_cidr_v4'],
    ['prefixes, IPv6', (i: number) => `2001:db8:${i + 1}::/48`, 'blocked_cidr_v6'],
  ] as const;

  it.each(rows)('refuses, and is reaped first: %s', (_name, target, map) =>
    withPinned(async ({ list }) => {
      for (let i = 0; i < 8; i++) await list.block(wish(target(i), i === 3 ? 0.001 : 3600));
      await until('the end', () => [...list.entries()].some(({ state }) => state === 'ended'));
      expect((await list.block(wish(target(8)))).status).toBe('blocked');
      expect(list.covering(parsePrefix(target(3)))).toEqual([]);

      const error = await refusal(() => list.block(wish(target(9))));
      expect(error.code).toBe('map_full');
      expect(error.message).toBe(`the map ${map} is full (8 entries)`);
      expect((await list.block(wish(target(8), 7200))).status).toBe('extended');
      expect([...list.entries()]).toHaveLength(8);
    }),
  );

  it('is reaped for an automatic block as well, at once or when the lock is free', () =>
    withPinned(async ({ lab, list }) => {
      for (let i = 0; i < 8; i++) await list.block(wish(`10.0.0.${i}`, i < 2 ? 0.001 : 3600));
      await until('the ends', () => [...list.entries()].filter(({ state }) => state === 'ended').length === 2);
      const release = await holdLock(lab);
      expect(list.blockAtOnce(wish('10.0.0.100'))).toBe('queued');
      await release();
      await list.settle();
      expect(list.covering(parsePrefix('10.0.0.100'))).toHaveLength(1);
      await list.block(wish('10.0.0.101', 0.001));
      await until('the end', () => list.covering(parsePrefix('10.0.0.101'))[0]?.state === 'ended');
      expect(list.blockAtOnce(wish('10.0.0.102'))).toBe('blocked');
      await list.settle();
      expect((await refusal(() => list.blockAtOnce(wish('10.0.0.103')))).code).toBe('map_full');
    }));
});

describe('an automatic block', () => {
  const withPinned = sharedPinned();

  it('of a new address goes in while somebody holds the lock, and is acknowledged when it is free', () =>
    withPinned(async ({ lab, list }) => {
      await list.block(wish('10.0.0.2', 60));
      const release = await holdLock(lab);
      expect(list.blockAtOnce(wish('10.0.0.1'))).toBe('blocked');
      expect(list.covering(parsePrefix('10.0.0.1'))).toMatchObject([{ state: 'enforce' }]);
      expect(list.blockAtOnce(wish('10.0.0.2', 600))).toBe('queued');
      let settled = false;
      const settling = list.settle().then(() => {
        settled = true;
      });
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect(settled).toBe(false);
      expect(list.covering(parsePrefix('10.0.0.2'))[0]?.dropSeconds).toBeLessThanOrEqual(60);
      await release();
      await settling;
      expect(list.covering(parsePrefix('10.0.0.2'))[0]?.dropSeconds).toBeGreaterThan(500);
    }));

  it('queued twice: the longer of each mode counts', () =>
    withPinned(async ({ lab, list }) => {
      await list.block(wish('10.0.0.2', 1));
      const release = await holdLock(lab);
      for (const [seconds, mode] of [
        [600, 'enforce'],
        [10, 'enforce'],
        [900, 'monitor'],
        [20, 'monitor'],
      ] as const) {
        expect(list.blockAtOnce(wish('10.0.0.2', seconds, { mode, owner: 'policy:a' }))).toBe('queued');
      }
      await release();
      await list.settle();
      const [entry] = list.covering(parsePrefix('10.0.0.2'));
      expect(entry?.dropSeconds).toBeGreaterThan(590);
      expect(entry?.countSeconds).toBeGreaterThan(890);
    }));

  it('of what is there is raised at once when the lock is free', () =>
    withPinned(async ({ list }) => {
      await list.block(wish('10.0.0.2', 60));
      expect(list.blockAtOnce(wish('10.0.0.2', 600))).toBe('extended');
      expect(list.blockAtOnce(wish('10.0.0.2', 60))).toBe('unchanged');
      await list.block(wish('10.0.0.3', 0.001));
      await until('the end', () => list.covering(parsePrefix('10.0.0.3'))[0]?.state === 'ended');
      expect(list.blockAtOnce(wish('10.0.0.3', 60))).toBe('blocked');
    }));

  it('removed before it was settled is put back', () =>
    withPinned(async ({ lab, list }) => {
      const release = await holdLock(lab);
      list.blockAtOnce(wish('10.0.0.1'));
      list.set.remove(parsePrefix('10.0.0.1'));
      await release();
      await list.settle();
      expect(list.covering(parsePrefix('10.0.0.1'))).toMatchObject([{ state: 'enforce' }]);
    }));

  it.each([
    ['wanted', 'made', 1],
    ['not wanted any more', 'void', 0],
  ] as const)('removed, and the ledger is slow to say that it is %s: nobody waits for the lock', (_, status, entries) =>
    withPinned(async ({ lab, list: { pinDir } }) => {
      let answer: (() => void) | null = null;
      const slow: Book = {
        ...noBook,
        record: (events) => {
          const outcomes = events.map(() => ({ status, owners: [], remaining: [] }));
          if (answer !== null) return outcomes;
          return new Promise((resolve) => {
            answer = () => resolve(outcomes);
          });
        },
      };
      const list = Blocklist.open(pinDir, { book: slow });
      const release = await holdLock(lab);
      list.blockAtOnce(wish('10.0.0.1'));
      list.set.remove(parsePrefix('10.0.0.1'));
      const settling = list.settle();
      await release();
      await until('the ledger to be asked', () => answer !== null);
      // Another has the lock while nothing is answered.
      await (await holdLock(lab))();
      (answer as (() => void) | null)?.();
      await settling;
      expect(list.covering(parsePrefix('10.0.0.1'))).toHaveLength(entries);
      list.close();
    }),
  );

  it('removed while the ledger falls into trouble is put back: a drop too many is the lesser evil', () =>
    withPinned(async ({ lab, list: { pinDir } }) => {
      let trouble: Error | null = null;
      const asked: unknown[] = [];
      const book: Book = {
        ...noBook,
        get trouble() {
          return trouble;
        },
        record: (events) => {
          asked.push(events);
          return new Promise(() => undefined);
        },
      };
      const list = Blocklist.open(pinDir, { book });
      const release = await holdLock(lab);
      list.blockAtOnce(wish('10.0.0.1'));
      list.set.remove(parsePrefix('10.0.0.1'));
      void list.settle();
      await release();
      await until('the ledger to be asked', () => asked.length === 1);
      trouble = new Error('the disk is full');
      await until('the entry', () => list.covering(parsePrefix('10.0.0.1')).length === 1);
      await (await holdLock(lab))();
      list.close();
    }));

  it('unblocked by hand before it was settled stays away', () =>
    withPinned(async ({ list }) => {
      list.blockAtOnce(wish('10.0.0.1'));
      expect((await list.unblock(parsePrefix('10.0.0.1'), { cause: byTest })).before).not.toBeNull();
      await list.settle();
      expect(list.covering(parsePrefix('10.0.0.1'))).toEqual([]);
    }));

  it('made while others are settled is settled too', () =>
    withPinned(async ({ lab, list }) => {
      for (let i = 0; i < 20; i++) {
        const release = await holdLock(lab);
        list.blockAtOnce(wish(`10.0.1.${i}`));
        const first = list.settle();
        void first.then(() => {
          list.blockAtOnce(wish(`10.0.2.${i}`));
          list.set.remove(parsePrefix(`10.0.2.${i}`));
        });
        await release();
        await first;
        await list.settle();
        expect(list.covering(parsePrefix(`10.0.2.${i}`))).toHaveLength(1);
      }
    }));

  it('of a prefix is not a thing', () =>
    withPinned(({ list }) => {
      expect(() => list.blockAtOnce(wish('10.0.0.0/24'))).toThrow(RangeError);
    }));
});

describe('a set swapped under an open list', () => {
  const again = async (lab: Lab, name: string) => {
    await detach(lab.pinDir, null, { purge: true });
    await attach(lab.pinDir, [name], { mode: 'auto', sizes: { addresses: 64 }, service: { uid: 0, gid: 0 } });
  };
  const blockedIn = (lab: Lab) => {
    const fresh = Blocklist.open(lab.pinDir);
    const found = [...fresh.entries()].map(({ target }) => formatPrefix(target));
    fresh.close();
    return found;
  };

  it('is found by the next write', () =>
    withPinned(async ({ lab, list, interfaceName }) => {
      await list.block(wish('10.0.0.1'));
      await again(lab, interfaceName);
      expect((await list.block(wish('10.0.0.2'))).status).toBe('blocked');
      expect(blockedIn(lab)).toEqual(['10.0.0.2']);
      await again(lab, interfaceName);
      expect((await list.unblock(parsePrefix('10.0.0.2'), { cause: byTest })).before).toBeNull();
    }));

  it('is found when an automatic block is settled, which is put into the new one', () =>
    withPinned(async ({ lab, list, interfaceName }) => {
      await list.block(wish('10.0.0.9'));
      await again(lab, interfaceName);
      expect(list.blockAtOnce(wish('10.0.0.1'))).toBe('blocked');
      expect(blockedIn(lab)).toEqual([]);
      await list.settle();
      expect(blockedIn(lab)).toEqual(['10.0.0.1']);
    }));

  it('by who holds the lock while it is waited for', () =>
    withPinned(async ({ lab, list, interfaceName }) => {
      const holder = await native().lock(`${lab.pinDir}/lock`, 'exclusive', 1000);
      const writing = list.block(wish('10.0.0.9'));
      // As a purge and an attach do it: the locked directory itself goes, and another one comes.
      lab.exec(null, 'sh', '-c', `cd ${lab.pinDir} && rm -r set-1 current links && rmdir lock`);
      await attach(lab.pinDir, [lab.veth({ name: 'r' }, { name: 's' }).a], {
        mode: 'auto',
        sizes: {},
        service: { uid: 0, gid: 0 },
      });
      holder?.release();
      expect((await writing).status).toBe('blocked');
      expect(blockedIn(lab)).toEqual(['10.0.0.9']);
      expect(interfaceName).not.toBe('');
    }));

  it('and purged: said so', () =>
    withPinned(async ({ lab, list }) => {
      await list.block(wish('10.0.0.1'));
      await detach(lab.pinDir, null, { purge: true });
      for (const work of [
        () => list.block(wish('10.0.0.2')),
        () => list.unblock(parsePrefix('10.0.0.1'), { cause: byTest }),
      ]) {
        expect((await refusal(work)).code).toBe('pin_dir_missing');
      }
      expect(list.blockAtOnce(wish('10.0.0.2'))).toBe('blocked');
      expect((await refusal(() => list.settle())).code).toBe('pin_dir_missing');
    }));
});

describe('maps that are not to be written', () => {
  it('of another format', () =>
    withPinned(async ({ lab, list }) => {
      list.set.map('settings').close();
      native()
        .openMap(`${lab.pinDir}/current/settings`)
        .update(
          u32(0),
          encodeSettings({
            format: FALCODROP_FORMAT + 1,
            mode: 0,
            deadline: 0n,
            modeAfter: 0,
            sampling: 0,
            neverDrop: [],
          }),
        );
      const error = await refusal(() => Blocklist.open(lab.pinDir));
      expect(error.code).toBe('layout_mismatch');
      expect(error.message).toContain(`format ${FALCODROP_FORMAT + 1}`);
    }));

  it.each(['blocked_v4', 'blocked_v6', 'blocked_cidr_v4', 'blocked_cidr_v6', 'settings'])(
    'of another value size: %s',
    (name) =>
      withPinned(async ({ lab }) => {
        const pin = `${lab.pinDir}/current/${name}`;
        const keySize =
          { blocked_v4: 4, blocked_v6: 16, blocked_cidr_v4: 12, blocked_cidr_v6: 20, settings: 4 }[name] ?? 4;
        const kind = name.includes('cidr') ? 'lpm_trie' : name === 'settings' ? 'array' : 'hash';
        lab.exec(null, 'rm', pin);
        lab.exec(
          null,
          'bpftool',
          ...['map', 'create', pin, 'type', kind, 'key', `${keySize}`, 'value', '56'],
          ...['entries', '1', 'name', name, ...(kind === 'lpm_trie' ? ['flags', '1'] : [])],
        );
        const error = await refusal(async () => {
          const list = Blocklist.open(lab.pinDir);
          try {
            for (const target of targets) await list.block(wish(target));
          } finally {
            list.close();
          }
        });
        expect(error.code).toBe('layout_mismatch');
        expect(error.message).toContain(name);
        expect(error.message).toContain('56');
      }),
  );

  it('missing ones are named', () =>
    withPinned(async ({ lab }) => {
      lab.exec(null, 'rm', `${lab.pinDir}/current/blocked_v6`);
      const error = await refusal(() => Blocklist.open(lab.pinDir));
      expect(error.code).toBe('layout_mismatch');
      expect(error.message).toMatch(/blocked_v6 is missing$/);
    }));

  it('frozen', () =>
    withPinned(async ({ lab, list }) => {
      await list.block(wish('10.0.0.1'));
      for (const name of ['blocked_v4', 'blocked_cidr_v6']) {
        lab.exec(null, 'bpftool', 'map', 'freeze', 'pinned', `${lab.pinDir}/current/${name}`);
      }
      for (const [target, name] of [
        ['10.0.0.2', 'blocked_v4'],
        ['2001:db8::/32', 'blocked_cidr_v6'],
      ] as const) {
        const error = await refusal(() => list.block(wish(target)));
        expect([error.code, error.message]).toEqual([
          'kernel_call',
          `the map ${name} is frozen: nobody can change it any more`,
        ]);
        expect(error.hint).toContain('--purge');
      }
      expect((await refusal(() => list.unblock(parsePrefix('10.0.0.1'), { cause: byTest }))).message).toContain(
        'frozen',
      );
    }));
});

describe('the service’s user', () => {
  const service = { uid: 64042, gid: 64043 };
  const asService = (lab: Lab, uid: number, gid: number, interfaceName: string) => {
    const { status, stdout, stderr } = lab.run(
      null,
      process.execPath,
      join(import.meta.dirname, 'service.ts'),
      ...[lab.pinDir, `${uid}`, `${gid}`, interfaceName, `if${lab.ifindex(null, interfaceName)}`],
    );
    expect([status, stderr]).toEqual([0, '']);
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  const denied = expect.objectContaining({ code: 'not_permitted' });

  it('writes the block maps without any capability, and nothing that is root’s', () =>
    withPinned(
      ({ lab, interfaceName }) => {
        expect(asService(lab, service.uid, service.gid, interfaceName)).toEqual({
          capabilities: '0000000000000000',
          uid: service.uid,
          open: null,
          'block address': 'blocked',
          'extend address': 'extended',
          'replace address': 'replaced',
          'block prefix': 'blocked',
          'extend prefix': 'extended',
          'replace prefix': 'replaced',
          'at once': 'blocked',
          list: 3,
          covering: 1,
          'unblock address': true,
          'unblock prefix': true,
          reap: 0,
          counters: 16,
          attachments: 1,
          attach: denied,
          detach: denied,
          settings: { errno: 'EACCES', operation: expect.any(String) },
          'settings, opened to read': { errno: 'EPERM', operation: expect.any(String) },
          allow: { errno: 'EACCES', operation: expect.any(String) },
          link: { errno: 'EACCES', operation: expect.any(String) },
        });
      },
      { service },
    ));

  it('is told by name when somebody else calls', () =>
    withPinned(
      ({ lab, interfaceName }) => {
        const outcome = asService(lab, 64044, 64044, interfaceName);
        expect(outcome.open).toEqual({
          code: 'not_permitted',
          message: expect.stringMatching(/\/settings can not be reached by this user$/),
        });
      },
      { service },
    ));

  it('reaches nothing below a bpffs of mode 0700, and is told so', () =>
    withPinned(
      ({ lab, interfaceName }) => {
        const outcome = asService(lab, service.uid, service.gid, interfaceName);
        expect(outcome.open).toEqual({
          code: 'not_permitted',
          message: `${lab.pinDir} can not be reached by this user`,
        });
        expect(outcome.attach).toEqual(denied);
      },
      { service, lab: { bpffsMode: 0o700 } },
    ));
});

describe('several processes at once, killed at random', () => {
  it('leave the maps as they were acknowledged', () =>
    withPinned(async ({ lab, list }) => {
      const log = (name: string) => join(lab.directory, `${name}.log`);
      const start = (name: string, kind: string, first: number) => {
        const out = openSync(log(name), 'a');
        const child = lab.spawn(
          null,
          [process.execPath, join(import.meta.dirname, 'writer.ts'), lab.pinDir, kind, `${first}`],
          { stdio: ['ignore', out, 'inherit'] },
        );
        closeSync(out);
        return child;
      };
      const writers = [
        ['hand-a', 'hand', 0],
        ['hand-b', 'hand', 16],
        ['automatic', 'automatic', 32],
        ['reaper', 'reaper', 0],
      ] as const;
      const running = writers.map(([name, kind, first]) => start(name, kind, first));
      const acksOf = (name: string) =>
        readFileSync(log(name), 'utf8')
          .split('\n')
          .filter((line) => /^ack /.test(line)).length;
      const acks = () => writers.reduce((sum, [name]) => sum + acksOf(name), 0);
      let kills = 0;
      // By what was done and not by the clock: a busy machine does it slower.
      while (kills <= 12 || acks() <= 600) {
        await new Promise((resolve) => setTimeout(resolve, 150 + Math.random() * 150));
        const index = kills % writers.length;
        const child = running[index];
        const writer = writers[index];
        if (child === undefined || writer === undefined) throw new Error('no such writer');
        expect([child.exitCode, child.signalCode], writer[0]).toEqual([null, null]);
        child.kill('SIGKILL');
        await ended(child);
        kills++;
        running[index] = start(writer[0], writer[1], writer[2]);
      }
      for (const child of running) {
        child.kill('SIGKILL');
        await ended(child);
      }

      /** What may be there: the last acknowledged, or what was begun since. */
      const possible = new Map<string, Set<string>>();
      let acknowledged = 0;
      for (const [name] of writers) {
        for (const line of readFileSync(log(name), 'utf8').split('\n')) {
          const [state = '', what = '', target = ''] = line.split(' ');
          if (state === 'try') possible.set(target, (possible.get(target) ?? new Set(['absent'])).add(what));
          if (state === 'ack') {
            possible.set(target, new Set([what]));
            acknowledged++;
          }
        }
      }
      const live = new Set(
        [...list.entries()].filter(({ state }) => state === 'enforce').map(({ target }) => formatPrefix(target)),
      );
      for (const [target, states] of possible) {
        expect([...states], target).toContain(live.has(target) ? 'blocked' : 'absent');
      }
      for (const target of live) expect(possible.has(target), target).toBe(true);
      expect(acknowledged).toBeGreaterThan(500);
      expect(kills).toBeGreaterThan(10);
      // The lock went with those who held it.
      expect((await list.block(wish('10.0.0.1'))).status).toBe('blocked');
    }));
});
