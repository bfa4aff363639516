/** A client in another language, written from docs/map-abi.md, on real pins: what it does is seen, and dropped. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dropped, type Edge, openEdge } from './edge.ts';

const service = [64042, 64043] as const;
const client = join(import.meta.dirname, '../fixtures/map_client.py');
/** Where a user without a home can run it. */
const python = '/usr/bin/python3';

let edge: Edge;
beforeAll(() => {
  edge = openEdge({ service, sizes: [8, 8] });
  for (const address of ['203.0.113.66', '203.0.113.77']) {
    edge.lab.exec(edge.outside, 'ip', 'addr', 'add', `${address}/32`, 'dev', 'x0');
  }
  edge.attach();
  // The tree may lie where the service can not read.
  edge.lab.exec(null, 'cp', client, join(edge.lab.directory, 'client.py'));
});
afterAll(() => edge.lab.close());

/** As the service's user, without any capability. */
function run(...args: readonly string[]): { readonly status: number | null; readonly said: string } {
  const argv = [python, join(edge.lab.directory, 'client.py'), edge.lab.pinDir];
  const done = edge.run(args, { argv, as: service });
  return { status: done.status, said: `${done.stdout}${done.stderr}`.trim() };
}

const ping = (source: string): boolean =>
  edge.lab.run(edge.outside, 'ping', '-c1', '-W1', '-I', source, '198.51.100.1').status === 0;

const listed = (): unknown[] => edge.json(0, ['list']).said.map(({ target, owners, state }) => [target, owners, state]);

test('blocks and unblocks an address: seen by list, by the kernel and by packets', () => {
  expect(ping('203.0.113.66')).toBe(true);
  expect(run('block', '203.0.113.66', '600')).toEqual({ status: 0, said: 'blocked' });
  expect(listed()).toEqual([['203.0.113.66', ['hand'], 'enforce']]);
  expect(dropped(edge.lab.pinDir, ['203.0.113.66', '203.0.113.77'])).toEqual(new Set(['203.0.113.66']));
  expect(ping('203.0.113.66')).toBe(false);
  expect(ping('203.0.113.77')).toBe(true);
  const [entry] = edge.json(0, ['list']).said;
  expect(entry?.ends_in_seconds).toBeGreaterThan(540);
  expect(entry?.ends_in_seconds).toBeLessThanOrEqual(601);
  expect(edge.json(0, ['map', 'check']).said[0]).toMatchObject({ ok: true, findings: [] });

  expect(run('block', '203.0.113.66', '1200')).toEqual({ status: 0, said: 'extended' });
  expect(run('block', '203.0.113.66', '60')).toEqual({ status: 0, said: 'unchanged' });
  expect(run('show', '203.0.113.66').said).toMatch(/^dropped 1\d\d\d s, owners 1, scope 0, packets [1-9]/);

  expect(run('unblock', '203.0.113.66')).toEqual({ status: 0, said: 'unblocked' });
  expect(run('unblock', '203.0.113.66')).toEqual({ status: 0, said: 'not blocked' });
  expect(dropped(edge.lab.pinDir, ['203.0.113.66']).size).toBe(0);
  expect(ping('203.0.113.66')).toBe(true);
  expect(listed()).toEqual([]);
});

test('the same with prefixes and IPv6, and both see what the other does', () => {
  for (const [target, inside, outside] of [
    ['203.0.113.64/28', '203.0.113.77', '203.0.113.80'],
    ['2001:db8:5::/48', '2001:db8:5::1', '2001:db8:6::1'],
    ['2001:db8::66', '2001:db8::66', '2001:db8::67'],
  ] as const) {
    expect(run('block', target, 'forever')).toEqual({ status: 0, said: 'blocked' });
    expect(dropped(edge.lab.pinDir, [inside, outside])).toEqual(new Set([inside]));
    expect(edge.json(0, ['show', inside]).said[0]).toMatchObject({ verdict: 'dropped', decided_by: target });
    expect(edge.json(0, ['map', 'check']).said[0]).toMatchObject({ ok: true, findings: [] });
    expect(run('unblock', target).said).toBe('unblocked');
    expect(dropped(edge.lab.pinDir, [inside, outside]).size).toBe(0);
  }
  edge.must(['block', '203.0.113.64/28', '--for', '1h']);
  expect(run('show', '203.0.113.64/28').said).toMatch(/^dropped 3\d\d\d s, owners 1/);
  expect(run('show', '203.0.113.64/30').said).toBe('not blocked, but /28 over it');
  edge.must(['unblock', '203.0.113.64/28']);
});

test('what it blocked is adopted; a full map refuses it', () => {
  expect(run('block', '203.0.113.66', '600').said).toBe('blocked');
  edge.must(['reconcile']);
  const [entry] = edge.json(0, ['list']).said;
  expect(entry?.claims).toEqual([expect.objectContaining({ owner: 'hand', reason: 'found in the maps' })]);
  edge.must(['unblock', '203.0.113.66']);
  const done = Array.from({ length: 9 }, (_, at) => run('block', `192.0.2.${at}`, '600').said);
  expect(done.filter((said) => said === 'blocked')).toHaveLength(8);
  expect(done.at(-1)).toBe('blocked_v4 is full');
});

test('another format is not touched', () => {
  const settings = join(edge.lab.pinDir, 'current/settings');
  const bytes = edge.json(0, ['map', 'dump', 'settings', '--raw']).said[0]?.value as string;
  const write = (hex: string): void => {
    const value = (hex.match(/../g) ?? []).flatMap((byte) => [`0x${byte}`]);
    edge.lab.exec(null, 'bpftool', 'map', 'update', 'pinned', settings, 'key', '0', '0', '0', '0', 'value', ...value);
  };
  write(`09${bytes.slice(2)}`);
  expect(run('block', '203.0.113.66', '600')).toEqual({
    status: 1,
    said: 'the maps have format 9, this client knows 3',
  });
  write(bytes);
  expect(run('show', '203.0.113.66').status).toBe(0);
});
