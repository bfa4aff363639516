/**
 * Killed at every step: whatever a command or the daemon was doing when SIGKILL came, what was acknowledged before goes on to
 * drop, what was unblocked does not come back, maps and ledger can be made equal again, and the same command can be repeated.
 *
 * One host and one set of maps for all of it. `model` is what was acknowledged so far; it is compared with the packets' verdicts
 * and with the maps after every crash, after the reconcile that follows, and after reboots.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { type FaultName, faults } from '../../src/fault.ts';
import { dropNow } from '../../src/kernel/clock.ts';
import { forEver, never } from '../../src/kernel/layout.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { until } from '../kernel/lab.ts';
import { buildVariant, sameWithOtherTag } from '../kernel/variant.ts';
import { differences, dropped, type Edge, heldIn, openEdge, uplink, type Ways, wantedIn } from './edge.ts';
import type { Step } from './fixtures/automatic.ts';

interface Wanted {
  /** Seconds from `at` on; null = for ever. Between the two: a crash came between acknowledgements. */
  readonly least: number | null;
  readonly most: number | null;
  readonly mode: 'enforce' | 'monitor';
  readonly at: number;
}

let edge: Edge;
/** What was acknowledged: held, or (null) gone for good. What a crash left open is in neither. */
const model = new Map<string, Wanted | null>();
const reached = new Set<string>();

beforeAll(() => {
  edge = openEdge();
  edge.attach();
  // Bystanders: of both families, a prefix, a watched one, a feed's, a forced one, one for ever.
  acknowledge('203.0.113.1', 7200);
  acknowledge('2001:db8:f::1', 7200);
  acknowledge('192.0.2.128/25', null);
  acknowledge('2001:db8:ffff::/48', 7200);
  edge.must(['block', '203.0.113.2', '--monitor', '--for', '2h']);
  model.set('203.0.113.2', { least: 7200, most: 7200, mode: 'monitor', at: performance.now() });
  edge.must(['block', '10.1.2.3', '--force', '--for', '2h']);
  model.set('10.1.2.3', { least: 7200, most: 7200, mode: 'enforce', at: performance.now() });
  writeFileSync(join(edge.lab.directory, 'feed'), '203.0.113.3\n192.0.2.0/26\n');
  edge.must(['import', join(edge.lab.directory, 'feed'), '--feed', 'first', '--for', '2h']);
  for (const target of ['203.0.113.3', '192.0.2.0/26'])
    model.set(target, { least: 7200, most: 7200, mode: 'enforce', at: performance.now() });
});
afterAll(() => edge.lab.close());

/** Blocks it, exit 0. */
function acknowledge(target: string, seconds: number | null, ...more: string[]): void {
  edge.must(['block', target, ...(seconds === null ? ['--forever'] : ['--for', `${seconds}s`]), ...more]);
  model.set(target, { least: seconds, most: seconds, mode: 'enforce', at: performance.now() });
}

/** The run must die by SIGKILL at that point. */
function die(fault: FaultName, args: readonly string[], ways: Ways = {}): void {
  const done = edge.run(args, { ...ways, fault });
  expect({ fault, status: done.status, stderr: done.stderr }).toMatchObject({ status: null });
  reached.add(fault);
}

/** An address that stands for a target in a packet. */
const sourceOf = (target: string): string => {
  const [address = ''] = target.split('/');
  return target.includes('/')
    ? address.endsWith('::')
      ? `${address}9`
      : address.replace(/\d+$/, (n) => `${+n + 9}`)
    : address;
};

function checkModel(when: string): void {
  const held = heldIn(edge.lab.pinDir);
  const wrong: string[] = [];
  for (const [target, wanted] of model) {
    const is = held.get(target);
    if (wanted === null) {
      if (is !== undefined) wrong.push(`${target} came back`);
      continue;
    }
    const seconds = is === undefined ? 0 : wanted.mode === 'enforce' ? is.dropSeconds : is.countSeconds;
    const passed = (performance.now() - wanted.at) / 1000;
    const left = (of: number | null) => (of === null ? Number.POSITIVE_INFINITY : of - passed);
    const at = seconds ?? Number.POSITIVE_INFINITY;
    if (at < left(wanted.least) - 2)
      wrong.push(`${target} is held for ${seconds} s, ${left(wanted.least)} were promised`);
    if (at > left(wanted.most) + 2)
      wrong.push(`${target} is held for ${seconds} s, at most ${left(wanted.most)} were wished`);
  }
  const expected = [...model].filter(([, wanted]) => wanted?.mode === 'enforce').map(([target]) => sourceOf(target));
  const passing = [...model].filter(([, wanted]) => wanted?.mode !== 'enforce').map(([target]) => sourceOf(target));
  const drops = dropped(edge.lab.pinDir, [...expected, ...passing]);
  for (const source of expected) if (!drops.has(source)) wrong.push(`a packet from ${source} passes`);
  for (const source of passing) if (drops.has(source)) wrong.push(`a packet from ${source} is dropped`);
  expect(wrong, when).toEqual([]);
}

/** After a crash: first as it is, then made equal by `reconcile`. */
function recover(): void {
  checkModel('after the crash');
  edge.must(['reconcile']);
  checkModel('after the reconcile');
  expect(differences(edge)).toEqual([]);
}

function automatic(steps: readonly Step[], fault?: FaultName): void {
  const argv = [process.execPath, join(import.meta.dirname, 'fixtures/automatic.ts')];
  const request = JSON.stringify({ pinDir: edge.lab.pinDir, stateDir: edge.stateDir, steps });
  if (fault === undefined) edge.must([request], { argv });
  else die(fault, [request], { argv });
}

let next = 10;
/** Addresses that no other case uses. */
const fresh = (): string => `203.0.113.${next++}`;
const freshPrefix = (): string => `100.64.${next++}.0/24`.replace(/^100\.64\./, '198.18.');

describe('a hand', () => {
  test.each(['block.begun', 'block.mapped', 'block.recorded'] as const)('a first block, at %s', (point) => {
    const [address, prefix] = [fresh(), freshPrefix()];
    die(point, ['block', address, '--for', '1h']);
    checkModel('after the crash');
    die(point, ['block', prefix, '--for', '1h']);
    recover();
    acknowledge(address, 5400);
    acknowledge(prefix, 5400);
    recover();
  });

  test('a forced block, at block.listed', () => {
    die('block.listed', ['block', '10.9.9.9', '--force', '--for', '1h']);
    recover();
  });

  test.each(['block.begun', 'extend.mapped', 'block.mapped', 'block.recorded'] as const)(
    'an extension, at %s',
    (point) => {
      for (const target of [fresh(), freshPrefix()]) {
        acknowledge(target, 3600);
        die(point, ['block', target, '--for', '2h']);
        model.set(target, { least: 3600, most: 7200, mode: 'enforce', at: performance.now() });
      }
      recover();
    },
  );

  test.each(['block.begun', 'replace.mapped', 'block.mapped', 'block.recorded'] as const)(
    'a shorter end, at %s',
    (point) => {
      for (const target of [fresh(), freshPrefix()]) {
        acknowledge(target, 7200);
        die(point, ['block', target, '--for', '1h', '--replace']);
        model.set(target, { least: 3600, most: 7200, mode: 'enforce', at: performance.now() });
      }
      recover();
    },
  );

  test.each(['unblock.begun', 'unblock.recorded', 'unblock.mapped', 'unblock.unhinted'] as const)(
    'an unblock, at %s, and again',
    (point) => {
      const targets = [fresh(), freshPrefix()];
      for (const target of targets) {
        acknowledge(target, 3600);
        die(point, ['unblock', target]);
        model.delete(target);
      }
      recover();
      if (point !== 'unblock.begun') {
        // The tombstone was on the disk: reconcile carries out what it says.
        for (const target of targets) expect(heldIn(edge.lab.pinDir).has(target)).toBe(false);
      }
      for (const target of targets) {
        // 4: not blocked any more.
        expect([0, 4]).toContain(edge.run(['unblock', target]).status);
        model.set(target, null);
      }
      recover();
    },
  );

  test.each(['unblock.recorded', 'unblock.mapped'] as const)(
    'the unblock of what a feed claims too, at %s',
    (point) => {
      const target = fresh();
      const file = join(edge.lab.directory, 'feed-one');
      writeFileSync(file, `${target}\n`);
      edge.must(['import', file, '--feed', `one${next}`, '--for', '1h']);
      const at = performance.now();
      acknowledge(target, 7200);
      die(point, ['unblock', target]);
      model.set(target, { least: 3600, most: 7200, mode: 'enforce', at: performance.now() });
      recover();
      model.set(target, { least: 3600, most: 3600, mode: 'enforce', at });
      checkModel("the feed's end");
    },
  );

  test('the unblock of a forced one, at unblock.unlisted, and again', () => {
    edge.must(['block', '10.8.8.8', '--force', '--for', '1h']);
    die('unblock.unlisted', ['unblock', '10.8.8.8']);
    recover();
    edge.must(['unblock', '10.8.8.8']);
    model.set('10.8.8.8', null);
    recover();
  });

  test('is told at the end of it: blocked anew after an unblock that was cut short', () => {
    const target = fresh();
    acknowledge(target, 3600);
    die('unblock.recorded', ['unblock', target]);
    acknowledge(target, 3600);
    recover();
  });
});

describe('import', () => {
  /** Two slices of 512 and some. */
  const many = Array.from({ length: 1100 }, (_, i) => `198.19.${i >> 8}.${i & 255}`);
  const write = (name: string, targets: readonly string[]): string => {
    const file = join(edge.lab.directory, name);
    writeFileSync(file, `${targets.join('\n')}\n`);
    return file;
  };

  test.each(['import.caused', 'import.sliced'] as const)('at %s, and again', (point) => {
    const file = write('many', many);
    die(point, ['import', file, '--feed', 'many', '--replace', '--for', '2h']);
    recover();
    const count = heldIn(edge.lab.pinDir).size;
    edge.must(['import', file, '--feed', 'many', '--replace', '--for', '2h']);
    for (const target of many) model.set(target, { least: 7200, most: 7200, mode: 'enforce', at: performance.now() });
    if (point === 'import.caused') expect(heldIn(edge.lab.pinDir).size).toBe(count + many.length);
    recover();
    edge.must(['unblock', '--owner', 'feed:many', '--yes']);
    for (const target of many) model.delete(target);
  });

  test('what a feed has no more, at import.withdrawn, and again', () => {
    const args = (name: string, targets: readonly string[]) => [
      ...['import', write(name, targets), '--feed', 'many', '--replace', '--for', '2h', '--yes'],
    ];
    edge.must(args('many', many));
    const kept = many.slice(0, 10);
    for (const target of kept) model.set(target, { least: 7200, most: 7200, mode: 'enforce', at: performance.now() });
    die('import.withdrawn', args('few', kept));
    const left = heldIn(edge.lab.pinDir).size;
    recover();
    expect(heldIn(edge.lab.pinDir).size).toBe(left);
    edge.must(args('few', kept));
    for (const target of many.slice(10)) model.set(target, null);
    recover();
  });
});

describe('the daemon', () => {
  test.each(['automatic.mapped', 'settle.raised', 'settle.recorded'] as const)('a new block, at %s', (point) => {
    const [before, during] = [fresh(), fresh()];
    automatic([{ do: 'block', target: before, seconds: 3600 }, { do: 'settle' }]);
    model.set(before, { least: 3600, most: 3600, mode: 'enforce', at: performance.now() });
    automatic([{ do: 'block', target: during, seconds: 3600 }, { do: 'settle' }], point);
    recover();
    // Nothing that dropped is given up.
    expect(heldIn(edge.lab.pinDir).has(during)).toBe(true);
  });

  test.each(['automatic.raised', 'settle.raised', 'settle.recorded'] as const)('a longer one, at %s', (point) => {
    const target = fresh();
    automatic([{ do: 'block', target, seconds: 3600 }, { do: 'settle' }]);
    automatic([{ do: 'block', target, seconds: 7200 }, { do: 'settle' }], point);
    model.set(target, { least: 3600, most: 7200, mode: 'enforce', at: performance.now() });
    recover();
  });

  test('what ends, at reap.mapped and reap.recorded', async () => {
    for (const point of ['reap.mapped', 'reap.recorded'] as const) {
      const target = fresh();
      edge.must(['block', target, '--for', '1s']);
      await until('its end', () => !heldIn(edge.lab.pinDir).has(target));
      automatic([{ do: 'reap' }], point);
      model.set(target, null);
      recover();
      expect(wantedIn(edge.stateDir).has(target)).toBe(false);
    }
  });
});

test.each(['undo.withdrawn', 'undo.set'] as const)('undo, at %s, and again', async (point) => {
  const [made, extended] = [fresh(), fresh()];
  automatic([{ do: 'block', target: extended, seconds: 3600 }, { do: 'settle' }]);
  const at = performance.now();
  const since = new Date(Date.now() + 1).toISOString();
  await until('a later millisecond', () => Date.now() > Date.parse(since));
  automatic([
    { do: 'block', target: made, seconds: 3600 },
    { do: 'block', target: extended, seconds: 7200 },
    { do: 'settle' },
  ]);
  model.set(extended, { least: 3600, most: 7200, mode: 'enforce', at });
  const args = ['undo', '--since', since, '--owner', 'policy:test', '--yes'];
  die(point, args);
  recover();
  edge.must(args);
  model.set(made, null);
  model.set(extended, { least: 3600, most: 3600, mode: 'enforce', at });
  recover();
});

describe('reconcile', () => {
  const withSet = (work: (set: PinnedSet) => void): void => {
    const set = new PinnedSet(edge.lab.pinDir);
    try {
      work(set);
    } finally {
      set.close();
    }
  };

  test.each(['reconcile.set', 'reconcile.recorded', 'reconcile.sliced'] as const)(
    'of entries that are gone or too short, at %s',
    (point) => {
      const [gone, short] = [fresh(), freshPrefix()];
      acknowledge(gone, 3600);
      acknowledge(short, 3600);
      const promised = [gone, short].map((target) => [target, model.get(target)] as const);
      withSet((set) => {
        set.remove(parsePrefix(gone));
        const ends = {
          dropUntil: dropNow(set.hints) + 60_000_000_000n,
          countUntil: never,
          action: 0,
          owners: 1,
          scope: 0,
        };
        set.change('set', parsePrefix(short), ends);
      });
      for (const target of [gone, short]) model.delete(target);
      die(point, ['reconcile']);
      checkModel('after the crash');
      for (const [target, wanted] of promised) if (wanted !== undefined) model.set(target, wanted);
      edge.must(['reconcile']);
      checkModel('after the reconcile');
      expect(differences(edge)).toEqual([]);
    },
  );

  test('of a tombstone, at reconcile.removed', () => {
    const target = fresh();
    acknowledge(target, 3600);
    die('unblock.recorded', ['unblock', target]);
    model.delete(target);
    die('reconcile.removed', ['reconcile']);
    model.set(target, null);
    recover();
  });

  test('of what another tool wrote, at reconcile.adopted', () => {
    const target = fresh();
    withSet((set) => {
      set.insert(parsePrefix(target), { dropUntil: forEver, countUntil: never, action: 0, owners: 0, scope: 0 });
    });
    model.set(target, { least: null, most: null, mode: 'enforce', at: performance.now() });
    die('reconcile.adopted', ['reconcile']);
    recover();
    expect(wantedIn(edge.stateDir).get(target)).toEqual({ dropSeconds: null, countSeconds: 0 });
  });
});

/** A reboot: no pins. What is attached is attached anew. */
describe('attach', () => {
  const sets = () => readdirSync(edge.lab.pinDir).filter((name) => name.startsWith('set-') || name.includes('new'));

  test.each([
    'attach.locked',
    'attach.placed',
    'attach.pinning',
    'attach.pinned',
    'attach.owned',
    'attach.current',
    'attach.restored',
    'attach.moded',
    'attach.linked',
    'attach.slotted',
    'attach.kept',
  ] as const)('after a reboot, at %s, and again', (point) => {
    edge.purge();
    die(point, ['attach', uplink, '--addresses', '4096', '--prefixes', '1024']);
    edge.attach();
    expect(sets()).toHaveLength(1);
    expect(edge.lab.exec(edge.namespace, 'ip', '-d', 'link', 'show', uplink)).toContain('xdp');
    recover();
  });

  test('over another program, at attach.updated, and again', () => {
    const other = buildVariant(edge.lab, 'other', sameWithOtherTag);
    edge.lab.attach(edge.namespace, [uplink], { script: other });
    die('attach.updated', ['attach', uplink]);
    expect(edge.json(0, ['attach', uplink]).said).toMatchObject([{ status: 'unchanged' }]);
    recover();
  });

  test('at the mount of its own bpffs, and again', () => {
    // The default place, in a mount namespace of its own whose process 1 is its own, so that nothing of this host is met.
    const script = [
      ...['mount -t tmpfs tmpfs /run', 'unset FALCODROP_PIN_DIR'],
      `FAULT=attach.mounted "$0" attach ${uplink} --addresses 64 --prefixes 64; echo "died $?"`,
      `"$0" attach ${uplink} --addresses 64 --prefixes 64 >&2 && "$0" block 203.0.113.200 >&2 && "$0" list --json`,
      `"$0" detach --all --purge >&2; ls /run/falcodrop; grep -c /run/falcodrop /proc/self/mounts`,
    ].join('; ');
    const argv = ['unshare', '--mount', '--pid', '--fork', '--mount-proc', 'sh', '-c', script];
    // The one interface is free for it.
    edge.must(['detach', uplink]);
    const done = edge.run([join(import.meta.dirname, '../../bin/falcodrop')], {
      argv,
      environment: { FALCODROP_STATE_DIR: join(edge.lab.directory, 'state-of-mount') },
    });
    edge.attach();
    expect(done.stdout.split('\n')).toEqual([
      expect.stringMatching(/^died 137/) as string,
      expect.stringContaining('"203.0.113.200"') as string,
      '0',
      '',
    ]);
    reached.add('attach.mounted');
  });
});

describe('detach', () => {
  test.each(['detach.detached', 'detach.unpinned', 'detach.freed'] as const)('at %s, and again', (point) => {
    die(point, ['detach', uplink]);
    // 4: it is not attached any more.
    expect([0, 4]).toContain(edge.run(['detach', uplink]).status);
    expect(readdirSync(join(edge.lab.pinDir, 'links'))).toEqual([]);
    expect(edge.lab.exec(edge.namespace, 'ip', '-d', 'link', 'show', uplink)).not.toContain('xdp');
    edge.attach();
    recover();
  });

  test.each(['purge.unpinning', 'purge.removed'] as const)('--purge, at %s, and again', (point) => {
    die(point, ['detach', '--all', '--purge']);
    edge.purge();
    expect(existsSync(edge.lab.pinDir)).toBe(false);
    edge.attach();
    recover();
    die(point, ['detach', '--all', '--purge']);
    edge.attach();
    recover();
    expect(readdirSync(edge.lab.pinDir).filter((name) => name.startsWith('set-'))).toHaveLength(1);
  });
});

describe('the ledger’s file', () => {
  test('ledger.made: an empty one is begun again', () => {
    const FALCODROP_STATE_DIR = join(edge.lab.directory, 'state-made');
    const target = fresh();
    die('ledger.made', ['block', target], { environment: { FALCODROP_STATE_DIR } });
    expect(edge.run(['block', target], { environment: { FALCODROP_STATE_DIR } })).toMatchObject({
      status: 0,
      stderr: '',
    });
    // The other ledger knows nothing of it.
    edge.must(['unblock', target]);
    model.set(target, null);
    recover();
  });

  test.each(['migrate.copied', 'migrate.changed', 'migrate.committed'] as const)('a migration, at %s', (point) => {
    const stateDir = join(edge.lab.directory, `state-${point}`);
    mkdirSync(stateDir, { mode: 0o770 });
    edge.must(['backup', join(edge.lab.directory, 'backup'), '--replace']);
    copyFileSync(join(edge.lab.directory, 'backup'), join(stateDir, 'ledger.db'));
    const argv = [process.execPath, join(import.meta.dirname, 'fixtures/migrate.ts')];
    const claims = wantedIn(stateDir).size;
    expect(claims).toBeGreaterThan(10);
    die(point, [stateDir], { argv });
    expect(Number(edge.must([stateDir], { argv }))).toBeGreaterThanOrEqual(claims);
    // The copy is one on which the version before starts.
    const copy = join(edge.lab.directory, `copy-${point}`);
    mkdirSync(copy, { mode: 0o770 });
    copyFileSync(join(stateDir, 'ledger.db.v1'), join(copy, 'ledger.db'));
    expect(wantedIn(copy).size).toBe(claims);
  });

  test.each(['aside.moved', 'aside.emptied'] as const)('a damaged one moved aside, at %s, and again', (point) => {
    const stateDir = join(edge.lab.directory, `state-${point}`);
    cpSync(edge.stateDir, stateDir, { recursive: true });
    for (const suffix of ['-wal', '-shm']) rmSync(join(stateDir, `ledger.db${suffix}`), { force: true });
    writeFileSync(join(stateDir, 'ledger.db'), 'no ledger at all, but long enough to be looked into '.repeat(100));
    writeFileSync(join(stateDir, 'ledger.db-wal'), 'its log');
    const environment = { FALCODROP_STATE_DIR: stateDir };
    die(point, ['reconcile'], { environment });
    checkModel('after the crash');
    edge.must(['reconcile'], { environment });
    checkModel('after the reconcile');
    expect(differences({ lab: edge.lab, stateDir })).toEqual([]);
    const names = readdirSync(stateDir).filter((name) => name.includes('.bad-'));
    expect(names.filter((name) => !/-(wal|shm)(-\d+)?$/.test(name)).length).toBeGreaterThanOrEqual(1);
    expect(names.some((name) => name.endsWith('-wal'))).toBe(true);
  });
});

describe("root's switches", () => {
  test.each(['allow.written', 'protect.stepping', 'protect.allowed'] as const)(
    'allow add, at %s, and again',
    (point) => {
      const target = fresh();
      acknowledge(target, 7200);
      die(point, ['allow', 'add', target]);
      edge.must(['protect']);
      expect(dropped(edge.lab.pinDir, [target])).toEqual(new Set());
      edge.must(['allow', 'remove', target]);
      recover();
    },
  );

  test('mode, at mode.set, and back', () => {
    die('mode.set', ['mode', 'monitor']);
    edge.must(['mode', 'enforce']);
    recover();
  });
});

test('nothing returned and nothing was lost over all of it, and one more reboot', () => {
  edge.purge();
  edge.attach();
  recover();
});

test('every point was reached', () => {
  expect(Object.keys(faults).filter((name) => !reached.has(name))).toEqual([]);
});
