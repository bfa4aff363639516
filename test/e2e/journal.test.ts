import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ended } from '../kernel/lab.ts';
import { alert, append, text } from '../sources/journal/journals.ts';
import { differences, dropped, type Edge, openEdge } from './edge.ts';
import { alertAtEdge, listenTo, type Run } from './running.ts';

const [one, two, three] = ['203.0.113.7', '203.0.113.8', '203.0.113.9'] as const;

let edge: Edge;
let files = '';
beforeEach(() => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\nhttp: { enabled: false }\n' });
  files = join(edge.lab.directory, 'journal');
  mkdirSync(files);
  const config = `${readFileSync(edge.configFile, 'utf8')}journal: { enabled: true, directory: ${files} }\n`;
  writeFileSync(edge.configFile, config);
  edge.attach();
});
afterEach(async () => {
  edge.purge();
  await edge.lab.close();
});

/** The host's own address is that of the lab. */
function write(client: string, unit = 'falco-modern-bpf.service'): void {
  const named = { _SYSTEMD_UNIT: unit, _COMM: unit.split('.')[0] ?? '' };
  append(files, [alert('', { ...named, MESSAGE: alertAtEdge(client) })]);
}

const start = (fault = '', environment: Readonly<Record<string, string>> = {}): Run =>
  listenTo(
    edge.lab.spawn(edge.namespace, edge.argv(['run'], { fault, environment }), { stdio: ['ignore', 'ignore', 'pipe'] }),
  );

test('an alert in the journal drops the offender; what other units say does not', async () => {
  append(files, [text('Falco version: 0.41.0 (x86_64)')]);
  const run = start();
  await run.said('reading the journal');
  write(two, 'nginx.service');
  write(one);
  await run.said('decision', one);
  run.child.kill('SIGTERM');
  await ended(run.child);
  expect(run.child.exitCode).toBe(0);
  expect(dropped(edge.lab.pinDir, [one, two, three])).toEqual(new Set([one]));
  expect(differences(edge)).toEqual([]);
});

test.each(['automatic.mapped', 'settle.raised', 'settle.recorded'])(
  'kill -9 at %s: the alert comes again, and maps and ledger agree',
  async (fault) => {
    const first = start(fault);
    await first.said('reading the journal');
    write(one);
    await ended(first.child);
    expect(first.child.signalCode ?? first.child.exitCode).toBe('SIGKILL');
    write(two);
    const second = start();
    await second.said('decision', one);
    await second.said('decision', two);
    second.child.kill('SIGTERM');
    await ended(second.child);
    expect(dropped(edge.lab.pinDir, [one, two, three])).toEqual(new Set([one, two]));
    expect(differences(edge)).toEqual([]);

    write(three);
    const third = start();
    await third.said('decision', three);
    third.child.kill('SIGTERM');
    await ended(third.child);
    expect(dropped(edge.lab.pinDir, [one, two, three])).toEqual(new Set([one, two, three]));
  },
);

test('the recipe of docs/sources.md', async () => {
  const guide = readFileSync(join(import.meta.dirname, '../../docs/sources.md'), 'utf8');
  const block = /```sh\n(mkdir \/tmp\/journal\n[^`]*)\n(FALCODROP_[^\n]*) falcodrop run\n```/.exec(guide);
  const [, prepare = '', settings = ''] = block ?? [];
  expect(settings).toContain('FALCODROP_JOURNAL__ENABLED=true');
  rmSync(files, { recursive: true });
  edge.lab.exec(edge.namespace, 'bash', '-euc', prepare.replaceAll('/tmp/journal', files));
  const given = settings
    .replaceAll('/tmp/journal', files)
    .split(' ')
    .map((each) => each.split('=') as [string, string]);
  writeFileSync(edge.configFile, readFileSync(edge.configFile, 'utf8').replace(/^journal:.*\n/m, ''));
  const run = start('', Object.fromEntries(given));
  await run.said('decision', '203.0.113.66');
  run.child.kill('SIGTERM');
  await ended(run.child);
  expect(dropped(edge.lab.pinDir, [one, '203.0.113.66'])).toEqual(new Set(['203.0.113.66']));
});

test('no journalctl: exit 1 with the reason', () => {
  const none = edge.run(['run', '--json'], {
    environment: { PATH: edge.stateDir },
    argv: ['/usr/bin/env', `PATH=${edge.stateDir}`, process.execPath, join(import.meta.dirname, '../../dist/main.js')],
  });
  expect(none.status).toBe(1);
  expect(none.stderr).toContain('"journal_unavailable"');
});
