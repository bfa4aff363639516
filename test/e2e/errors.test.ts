/** Errors that need a stage of their own, with their codes, sentences and ways out. */
import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { command } from '../cli/falcodrop.ts';
import { type Edge, openEdge, uplink } from './edge.ts';

let edge: Edge;
beforeAll(() => {
  edge = openEdge();
  edge.attach();
});
afterAll(() => edge.lab.close());

test('declined: a question that is answered with no', () => {
  edge.must(['block', '203.0.113.66']);
  const words = edge.argv(['unblock', '--all', '--json']).map((word) => `'${word}'`);
  const asked = `echo n | script -qec "${words.join(' ')}" /dev/null`;
  const { stdout } = edge.lab.run(edge.namespace, 'sh', '-c', asked);
  expect(stdout).toContain(`"code":"${'declined'}"`);
  expect(stdout).toContain('"hint":"answer y');
  expect(edge.json(0, ['list']).said).toHaveLength(1);
});

test('config_exists: init leaves a configuration alone', () => {
  expect(edge.json(1, ['init', '--interface', uplink]).errors).toMatchObject([
    {
      code: 'config_exists',
      message: expect.stringContaining(edge.configFile),
      hint: expect.stringContaining('--force'),
    },
  ]);
});

test('addon_missing: the command alone, without what was built beside it', () => {
  const place = join(edge.lab.directory, 'alone');
  mkdirSync(join(place, 'bin'), { recursive: true });
  const root = dirname(dirname(command));
  cpSync(command, join(place, 'bin/falcodrop'));
  cpSync(join(root, 'dist'), join(place, 'dist'), { recursive: true, filter: (path) => !path.endsWith('.node') });
  for (const name of ['.node', 'node_modules']) symlinkSync(join(root, name), join(place, name));
  expect(edge.json(1, ['list'], { argv: [join(place, 'bin/falcodrop')] }).errors).toMatchObject([
    { code: 'addon_missing', hint: expect.stringContaining('make build') },
  ]);
});

test('xdp_attach: the kernel refuses for a reason of its own, and its words are told', () => {
  const { namespace, lab } = edge;
  // veth's native XDP wants as many receive queues as its peer has to send.
  const pair = ['numrxqueues', '1', 'numtxqueues', '1', 'type', 'veth', 'peer', 'name', 'many1', 'numtxqueues', '4'];
  lab.exec(namespace, 'ip', 'link', 'add', 'many0', ...pair, 'numrxqueues', '4');
  for (const name of ['many0', 'many1']) lab.exec(namespace, 'ip', 'link', 'set', name, 'up');
  expect(edge.json(1, ['attach', 'many0', '--xdp', 'native']).errors).toMatchObject([
    {
      code: 'xdp_attach',
      message: expect.stringMatching(/refused native XDP on many0 .*queues/),
      hint: expect.any(String),
    },
  ]);
});

test('lock_busy: somebody holds the lock for longer than a hand waits', () => {
  const holder = edge.lab.spawn(edge.namespace, ['flock', '--no-fork', join(edge.lab.pinDir, 'lock'), 'sleep', '60'], {
    stdio: 'ignore',
  });
  try {
    expect(edge.json(1, ['block', '203.0.113.67']).errors).toMatchObject([
      { code: 'lock_busy', message: expect.stringContaining('for 10 s'), hint: expect.stringContaining('fuser') },
    ]);
  } finally {
    holder.kill('SIGKILL');
  }
});
