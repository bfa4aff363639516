/** The journal as a source of the daemon: on real journal files, with the real journalctl. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { formatPrefix } from '../../src/address/prefix.ts';
import { withSources } from '../../src/cli/run.ts';
import { parseConfig } from '../../src/config/load.ts';
import { runDaemon } from '../../src/daemon/daemon.ts';
import { alert, append, text } from '../sources/journal/journals.ts';
import { blocklistDouble, canary, logDouble } from './double.ts';

let directory = '';
let files = '';
const path = process.env.PATH;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-run-`));
  files = join(directory, 'journal');
  mkdirSync(files);
});
afterEach(() => {
  process.env.PATH = path;
  rmSync(directory, { recursive: true });
});

function start() {
  const config = parseConfig(
    `automatic: enforce\nhttp: { enabled: false }\njournal: { enabled: true, directory: ${files} }\n`,
    'test',
  );
  const said = logDouble();
  const blocklist = blocklistDouble(() => 'blocked');
  const stop = new AbortController();
  const running = runDaemon({
    config,
    pinDir: directory,
    stateDir: directory,
    signal: stop.signal,
    open: () => blocklist,
    log: said,
  });
  running.catch(() => undefined);
  const targets = (): string[] => blocklist.wishes.map(({ target }) => formatPrefix(target));
  return { said, blocklist, stop, running, targets };
}

const write = (...clients: string[]): void =>
  append(
    files,
    clients.map((client) => alert('', { MESSAGE: canary(client) })),
  );

test('it goes on until it is told to stop, and the next run goes on from there', async () => {
  append(files, [text('Falco version: 0.41.0'), text('{"rule":')]);
  write('198.51.100.7');
  const first = start();
  expect(await first.said.waitFor('decision')).toMatchObject({ source: 'journal', offender: '198.51.100.7' });
  expect(first.said.of('no source of alerts is enabled')).toEqual([]);
  expect(first.said.of('a line is no alert')).toEqual([expect.objectContaining({ source: 'journal', times: 1 })]);
  first.stop.abort();
  await first.running;
  expect(first.said.of('stopped')[0]).toMatchObject({
    sources: { journal: { received: 2, bad: 1, decided: 1 } },
    journal: { entries: 3, texts: 1, unreadable: 0, failures: 0 },
  });
  expect(readFileSync(join(directory, 'journal.json'), 'utf8')).toContain('"cursor":"s=');
  write('198.51.100.8');
  const second = start();
  await second.said.waitFor('decision');
  second.stop.abort();
  await second.running;
  expect(second.targets()).toEqual(['198.51.100.8']);
});

test('no journalctl: said at once, nothing is left open', async () => {
  process.env.PATH = directory;
  const { running, blocklist } = start();
  await expect(running).rejects.toMatchObject({ code: 'journal_unavailable' });
  expect(blocklist.calls).toEqual(['close']);
});

test('ways in that were typed are all there are', () => {
  const config = parseConfig('journal: { enabled: true }', 'test');
  expect(withSources({ options: { stdin: true } }, config).journal.enabled).toBe(false);
  expect(withSources({ options: {} }, config).journal.enabled).toBe(true);
});
