import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { systemLog } from '../../src/cli/record.ts';

/** Prints each datagram as a line, after "ready". */
const listener = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('ready', flush=True)
for _ in range(3): print(s.recv(65536).decode(), flush=True)
`;

test('what hands do goes to the system log, its text made harmless', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'fd-log-'));
  const socket = join(directory, 'log');
  const python = spawn('python3', ['-c', listener, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    let heard = '';
    const log = systemLog(socket);
    for await (const text of python.stdout.setEncoding('utf8') as AsyncIterable<string>) {
      if (heard === '') {
        const wish = { target: parsePrefix('203.0.113.66'), owner: 'hand', seconds: 3600 } as const;
        log.made({ ...wish, mode: 'enforce', reason: `scans\n<0>forged${'x'.repeat(2000)}` });
        log.made({ ...wish, mode: 'monitor', seconds: null, reason: null });
        log.withdrawn(parsePrefix('2001:db8::/48'));
      }
      heard += text;
    }
    const [, made, watched, withdrawn] = heard.trimEnd().split('\n');
    expect(made).toMatch(/^<29>falcodrop\[\d+\]: uid \d+: block 203\.0\.113\.66 for 1h: scans\\u000a<0>forgedx+…$/);
    expect(made?.length).toBeLessThan(1000);
    expect(watched).toMatch(/: watch 203\.0\.113\.66 for ever$/);
    expect(withdrawn).toMatch(/: unblock 2001:db8::\/48$/);
  } finally {
    python.kill();
    rmSync(directory, { recursive: true });
  }
});

test('nobody listening is no failure', () => {
  expect(() => systemLog('/nonexistent/log').withdrawn(parsePrefix('192.0.2.1'))).not.toThrow();
});
