/** Root's part, killed at every step: drops pause nowhere where they need not, and the next attach begins where it must. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildVariant, sameWithOtherTag } from '../kernel/variant.ts';
import { uplink } from './edge.ts';
import { families } from './families.ts';
import { openWitness, type Witness } from './witness.ts';

let witness: Witness;
beforeAll(() => {
  witness = openWitness();
});
afterAll(() => witness.edge.lab.close());

/** A reboot: no pins. What is attached is attached anew. */
describe('attach', () => {
  const sets = () =>
    readdirSync(witness.edge.lab.pinDir).filter((name) => name.startsWith('set-') || name.includes('new'));

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
    witness.edge.purge();
    witness.die(point, ['attach', uplink, '--addresses', '4096', '--prefixes', '1024']);
    witness.edge.attach();
    expect(sets()).toHaveLength(1);
    expect(witness.edge.lab.exec(witness.edge.namespace, 'ip', '-d', 'link', 'show', uplink)).toContain('xdp');
    witness.recover();
  });

  test('over another program, at attach.updated, and again', () => {
    const other = buildVariant(witness.edge.lab, 'other', sameWithOtherTag);
    witness.edge.lab.attach(witness.edge.namespace, [uplink], { script: other });
    witness.die('attach.updated', ['attach', uplink]);
    expect(witness.edge.json(0, ['attach', uplink]).said).toMatchObject([{ status: 'unchanged' }]);
    witness.recover();
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
    witness.edge.must(['detach', uplink]);
    const done = witness.edge.run([join(import.meta.dirname, '../../bin/falcodrop')], {
      argv,
      environment: { FALCODROP_STATE_DIR: join(witness.edge.lab.directory, 'state-of-mount') },
    });
    witness.edge.attach();
    expect(done.stdout.split('\n')).toEqual([
      expect.stringMatching(/^died 137/) as string,
      expect.stringContaining('"203.0.113.200"') as string,
      '0',
      '',
    ]);
    witness.reached('attach.mounted');
  });
});

describe('detach', () => {
  test.each(['detach.detached', 'detach.unpinned', 'detach.freed'] as const)('at %s, and again', (point) => {
    witness.die(point, ['detach', uplink]);
    // 4: it is not attached any more.
    expect([0, 4]).toContain(witness.edge.run(['detach', uplink]).status);
    expect(readdirSync(join(witness.edge.lab.pinDir, 'links'))).toEqual([]);
    expect(witness.edge.lab.exec(witness.edge.namespace, 'ip', '-d', 'link', 'show', uplink)).not.toContain('xdp');
    witness.edge.attach();
    witness.recover();
  });

  test.each(['purge.unpinning', 'purge.removed'] as const)('--purge, at %s, and again', (point) => {
    witness.die(point, ['detach', '--all', '--purge']);
    witness.edge.purge();
    expect(existsSync(witness.edge.lab.pinDir)).toBe(false);
    witness.edge.attach();
    witness.recover();
    witness.die(point, ['detach', '--all', '--purge']);
    witness.edge.attach();
    witness.recover();
    expect(readdirSync(witness.edge.lab.pinDir).filter((name) => name.startsWith('set-'))).toHaveLength(1);
  });
});

test('nothing returned and nothing was lost over all of it, and one more reboot', () => {
  witness.edge.purge();
  witness.edge.attach();
  witness.recover();
});

test('every point was reached', () => {
  expect(witness.missing(families['crash-attach.test.ts'])).toEqual([]);
});
