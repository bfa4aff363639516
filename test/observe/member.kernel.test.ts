/** The audit of a member of the service's group, who may write the ledger and not the audit file. Needs root, to be another. */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

let stateDir = '';
const path = () => join(stateDir, 'audit.jsonl');

beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), `fd${process.pid}-member-`));
  chownSync(stateDir, 54_321, 54_322);
  chmodSync(stateDir, 0o2770);
  writeFileSync(path(), '');
  chownSync(path(), 54_321, 54_322);
  chmodSync(path(), 0o640);
});
afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

const asMember = (socket: string): string =>
  execFileSync(
    'setpriv',
    [
      ...['--reuid=54399', '--regid=54322', '--clear-groups', '--inh-caps=-all', '--bounding-set=-all'],
      ...[process.execPath, join(import.meta.dirname, 'member.ts'), stateDir, socket, '54321', '54322'],
    ],
    { encoding: 'utf8' },
  );

test('what he does goes to the system’s log, and he hears so once', async () => {
  const socket = join(stateDir, 'log');
  const listener = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
print('ready', flush=True)
for _ in range(3): print(s.recv(65536).decode(), flush=True)
`;
  const python = spawn('python3', ['-c', listener, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  let heard = '';
  let said = '';
  try {
    for await (const text of python.stdout.setEncoding('utf8') as AsyncIterable<string>) {
      if (heard === '') said = asMember(socket);
      heard += text;
    }
  } finally {
    python.kill();
  }
  expect(heard.match(/: ended 203\.0\.113\.66 by hand/g)).toHaveLength(3);
  expect(said).toBe(
    `what you do is told to the system's log alone: ${path()} is only root's and the service's to write\n`,
  );
  expect(readFileSync(path(), 'utf8')).toBe('');
});

test('and where there is no such log, he hears that', () => {
  expect(asMember('/nonexistent/log')).toMatch(/^what you do is in the history alone: .* there is no system log\n$/);
  rmSync(path());
  expect(asMember('/nonexistent/log')).toMatch(/^what you do is in the history alone: .*\n$/);
  expect(readdirSync(stateDir)).toEqual([]);
});
