/** Blocks limited to local ports, and blocks that end by themselves unless confirmed: real connections, and a reboot. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Edge, heldIn, openEdge, uplink } from './edge.ts';

const neighbour = '203.0.113.66';
const ports = ['2222', '8080'] as const;

let edge: Edge;
beforeAll(async () => {
  edge = openEdge();
  edge.lab.exec(edge.outside, 'ip', 'address', 'add', `${neighbour}/32`, 'dev', 'x0');
  edge.attach();
  for (const port of ports) {
    const script = `require('node:http').createServer((_, answer) => answer.end('${port}')).listen(${port}, () => console.log('up'))`;
    const server = edge.lab.spawn(edge.namespace, [process.execPath, '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => server.stdout?.once('data', resolve));
  }
});
afterAll(() => edge.lab.close());
beforeEach(() => {
  edge.run(['unblock', '--all', '--all-claims', '--yes']);
});

/** Ports of which the neighbour gets an answer. */
const reached = (): string[] =>
  ports.filter((port) => {
    const curl = [
      'curl',
      '--silent',
      '--max-time',
      '1',
      '--interface',
      neighbour,
      `http://198.51.100.1:${port}/`,
    ] as const;
    return edge.lab.run(edge.outside, ...curl).stdout === port;
  });
const listed = (): Record<string, unknown>[] => edge.json(0, ['list']).said;
const held = (target = neighbour): number | null | undefined => heldIn(edge.lab.pinDir).get(target)?.dropSeconds;

describe('--port', () => {
  test('cuts those ports off and no other', () => {
    expect(reached()).toEqual(['2222', '8080']);
    expect(edge.must(['block', neighbour, '--port', 'tcp/2222', '--for', '1h'])).toMatch(
      /blocked until .*, to tcp\/2222 only\n$/,
    );
    expect(reached()).toEqual(['8080']);
    expect(listed()).toMatchObject([{ target: neighbour, ports: 'tcp/2222', claims: [{ ports: 'tcp/2222' }] }]);
    expect(edge.must(['list'])).toContain('only tcp/2222');
    expect(edge.must(['show', neighbour])).toContain('is dropped, to tcp/2222 only, until');
    edge.must(['unblock', neighbour]);
    expect(reached()).toEqual(['2222', '8080']);
  });

  test('a prefix too', () => {
    edge.must(['block', '203.0.113.0/24', '--port', 'tcp/8080']);
    expect(reached()).toEqual(['2222']);
  });

  test('all ports for a while and some for longer: each to its end', () => {
    edge.must(['block', neighbour, '--port', 'tcp/2222', '--for', '4h']);
    edge.must(['block', neighbour, '--for', '10m']);
    expect(reached()).toEqual([]);
    expect(held()).toBeLessThanOrEqual(600);
    expect(edge.must(['reconcile'])).toContain('unchanged');
    // The wide one goes; what it hid is in force at once.
    edge.must(['block', neighbour, '--port', 'tcp/8080', '--for', '5m']);
    expect(listed()).toMatchObject([
      { ports: null, claims: [{ ports: null }, { ports: 'tcp/2222' }, { ports: 'tcp/8080' }] },
    ]);
    edge.must(['block', neighbour, '--port', 'tcp/2222', '--for', '3h', '--replace']);
    expect(listed()).toMatchObject([{ ports: 'tcp/2222', claims: [{ ports: 'tcp/2222' }] }]);
    expect(reached()).toEqual(['8080']);
    expect(edge.must(['reconcile'])).toContain('unchanged');
  });

  test('two sets of ports are one until the first ends', () => {
    edge.must(['block', neighbour, '--port', 'tcp/2222', '--for', '2h']);
    edge.must(['block', neighbour, '--port', 'tcp/8080', '--for', '1h']);
    expect(listed()).toMatchObject([{ ports: 'tcp/2222,tcp/8080' }]);
    expect(held()).toBeLessThanOrEqual(3600);
    expect(reached()).toEqual([]);
  });

  test('comes back after a reboot, and by export and import', () => {
    edge.must(['block', neighbour, '--port', 'tcp/2222', '--for', '1h']);
    const file = join(edge.lab.directory, 'exported');
    writeFileSync(file, edge.must(['export']));
    edge.purge();
    edge.attach();
    expect(reached()).toEqual(['8080']);
    edge.must(['unblock', neighbour]);
    edge.must(['import', file]);
    expect(listed()).toMatchObject([{ ports: 'tcp/2222' }]);
    expect(reached()).toEqual(['8080']);
    expect(edge.must(['import', file])).toContain('unchanged');
  });

  test.each([
    [['--port', '22'], 2, 'ports_invalid'],
    [['--port', 'icmp/8'], 2, 'ports_invalid'],
    [['--port', 'tcp/22', '--force'], 2, 'usage'],
  ] as const)('%j is refused', (options, status, code) => {
    expect(edge.json(status, ['block', neighbour, ...options]).errors).toMatchObject([{ code }]);
    expect(held()).toBeUndefined();
  });

  test('more sets than there is room for are refused, and nothing is half done; what ended makes room', () => {
    const targets = Array.from({ length: 255 }, (_, n) => `198.18.0.${n}`);
    const file = join(edge.lab.directory, 'many');
    writeFileSync(file, targets.map((target, n) => JSON.stringify({ target, ports: `tcp/${1000 + n}` })).join('\n'));
    edge.must(['import', file, '--for', '1h']);
    expect(edge.json(1, ['block', neighbour, '--port', 'tcp/2222']).errors).toMatchObject([{ code: 'scopes_full' }]);
    expect(held()).toBeUndefined();
    edge.must(['block', neighbour, '--port', 'tcp/1000']);
    edge.must(['unblock', '198.18.0.9']);
    edge.must(['block', '198.18.1.1', '--port', 'tcp/2222']);
    expect(listed()).toHaveLength(256);
  });
});

describe('--revert-after', () => {
  test('the kernel ends it by itself, and confirm makes it last', () => {
    edge.must(['block', neighbour, '--for', '4h', '--revert-after', '2m']);
    expect(held()).toBeLessThanOrEqual(120);
    // No reconcile confirms it.
    edge.must(['reconcile']);
    expect(held()).toBeLessThanOrEqual(120);
    expect(edge.must(['confirm'])).toMatch(/^confirmed: 203\.0\.113\.66 stays blocked until /);
    expect(held()).toBeGreaterThan(4 * 3600 - 60);
    expect(edge.json(4, ['confirm']).errors).toMatchObject([{ code: 'nothing_pending' }]);
    edge.must(['reconcile']);
    expect(held()).toBeGreaterThan(4 * 3600 - 60);
  });

  test('for ever, once confirmed; a reboot confirms nothing', () => {
    edge.must(['block', neighbour, '--forever', '--revert-after', '5m']);
    edge.purge();
    edge.attach();
    expect(held()).toBeLessThanOrEqual(300);
    edge.must(['confirm']);
    expect(held()).toBeNull();
  });

  test('unconfirmed it has ended with everything of ours dead: packets pass again', () => {
    edge.must(['block', neighbour, '--for', '1h', '--revert-after', '1s']);
    const begun = performance.now();
    while (reached().length < 2) if (performance.now() - begun > 30_000) break;
    expect(reached()).toEqual(['2222', '8080']);
    expect(edge.run(['confirm']).status).toBe(4);
    expect(reached()).toEqual(['2222', '8080']);
  });

  test.each([
    [['--for', '1h', '--revert-after', '2h'], 'usage'],
    [['--revert-after', 'soon'], 'duration_invalid'],
    [['--revert-after', '1m', '--force'], 'usage'],
  ] as const)('%j is refused', (options, code) => {
    expect(edge.json(2, ['block', neighbour, ...options]).errors).toMatchObject([{ code }]);
  });

  test('is told by list until then', () => {
    edge.must(['block', neighbour, '--for', '1h', '--revert-after', '5m', '--port', 'tcp/8080']);
    const [block] = listed();
    expect(block).toMatchObject({ claims: [{ ends_at_if_confirmed: expect.stringMatching(/^20/) }] });
    edge.must(['confirm']);
    expect(listed()).toMatchObject([{ ports: 'tcp/8080', claims: [{ ends_at_if_confirmed: null }] }]);
    expect(edge.lab.exec(edge.namespace, 'ip', '-d', 'link', 'show', uplink)).toContain('xdp');
  });
});
