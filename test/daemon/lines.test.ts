import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formatPrefix } from '../../src/address/prefix.ts';
import { withSources } from '../../src/cli/run.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { type DaemonBlocklist, type DaemonOptions, runDaemon } from '../../src/daemon/daemon.ts';
import { blocklistDouble, canary, logDouble } from './double.ts';

let directory = '';
let log = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-run-`));
  log = join(directory, 'alerts.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true }));

const configOf = (text: string): Config => parseConfig(`automatic: enforce\nhttp: { enabled: false }\n${text}`, 'test');

function start(config: Config, more: Partial<DaemonOptions> = {}) {
  const said = logDouble();
  const blocklist = blocklistDouble(() => 'blocked');
  const stop = new AbortController();
  let reconciled = 0;
  const running = runDaemon({
    config,
    pinDir: directory,
    stateDir: directory,
    signal: stop.signal,
    open: () => blocklist,
    log: said,
    reconcile: async () => {
      reconciled++;
    },
    ...more,
  });
  // Waited for later, perhaps.
  running.catch(() => undefined);
  const targets = (): string[] => blocklist.wishes.map(({ target }) => formatPrefix(target));
  return { said, blocklist, stop, running, targets, reconciled: () => reconciled };
}

const lines = (...clients: string[]): string => clients.map((client) => `${canary(client)}\n`).join('');

describe('input that has an end', () => {
  test('stdin: every alert is decided and durable, then it ends; nothing more is begun than that takes', async () => {
    const stdin = new PassThrough();
    const { running, targets, blocklist, said, reconciled } = start(configOf('stdin: true'), { stdin });
    stdin.write(lines('198.51.100.7', '198.51.100.8'));
    stdin.end(`no alert\n${canary('198.51.100.9')}`);
    await running;
    expect(targets()).toEqual(['198.51.100.7', '198.51.100.8', '198.51.100.9']);
    expect(blocklist.calls.slice(-2)).toEqual(['settle', 'close']);
    expect(reconciled()).toBe(0);
    expect(said.of('stopping')[0]).toMatchObject({ why: 'end of input' });
    expect(said.of('a line is no alert')).toEqual([
      expect.objectContaining({ level: 'warn', source: 'stdin', problem: 'the text is not JSON', times: 1 }),
    ]);
    expect(said.of('stopped')[0]).toMatchObject({
      sources: { stdin: { received: 4, bad: 1, tooLong: 0, shed: 0, decided: 3 } },
      alerts: { judged: 3, blocked: 3 },
    });
    expect(said.of('no source of alerts is enabled')).toEqual([]);
  });

  test('a file of the fleet: its hosts’ alerts count, strangers’ do not, and what came twice is one', async () => {
    const time = (n: number): string => new Date(Date.now() - n).toISOString();
    const of = (client: string, hostname: string | null, n: number): string =>
      `${canary(client, { ...(hostname === null ? {} : { hostname }), time: time(n) })}\n`;
    const twice = of('198.51.100.7', 'web-2', 1);
    const text = [
      twice,
      of('198.51.100.8', 'web-3', 2),
      of('198.51.100.9', null, 3),
      twice,
      of('198.51.100.10', 'web-2', 600_000),
    ];
    writeFileSync(log, text.join(''));
    const config = configOf(`files: [{ path: ${log}, follow: false, fleet_hosts: [Web-2] }]`);
    const { running, targets, said } = start(config);
    await running;
    expect(targets()).toEqual(['198.51.100.7']);
    expect(said.of('stopped')[0]).toMatchObject({
      sources: { [`file:${log}`]: { received: 5, duplicate: 1, decided: 4, otherHost: 2, stale: 1 } },
    });
  });

  test('two files and stdin: it ends with the last of them', async () => {
    const other = join(directory, 'other.jsonl');
    writeFileSync(log, lines('198.51.100.7'));
    writeFileSync(other, lines('198.51.100.8'));
    const stdin = new PassThrough();
    const config = configOf(`stdin: true\nfiles: [{ path: ${log}, follow: false }, { path: ${other}, follow: false }]`);
    const { running, targets, said } = start(config, { stdin });
    await said.waitFor('ready');
    stdin.end(lines('198.51.100.9'));
    await running;
    expect(targets().toSorted()).toEqual(['198.51.100.7', '198.51.100.8', '198.51.100.9']);
    expect(said.of('reading to its end').map(({ path }) => path)).toEqual([log, other]);
    // Read whole each time: nothing is kept of them.
    expect(readdirSync(directory).filter((name) => name.startsWith('lines-'))).toEqual([]);
  });

  test('a file that is not there: said at once, nothing is left open', async () => {
    const { running, blocklist } = start(configOf(`files: [{ path: ${log}, follow: false }]`));
    await expect(running).rejects.toMatchObject({ code: 'file_unreadable', message: expect.stringContaining(log) });
    expect(blocklist.calls).toEqual(['close']);
  });

  test('reading fails in the middle: what came before is done, then it is said', async () => {
    const stdin = new PassThrough();
    const { running, targets, said } = start(configOf('stdin: true'), { stdin });
    await said.waitFor('ready');
    stdin.write(lines('198.51.100.7'));
    await said.waitFor('decision');
    stdin.destroy(Object.assign(new Error('EIO'), { code: 'EIO' }));
    await expect(running).rejects.toMatchObject({ code: 'file_unreadable' });
    expect(targets()).toEqual(['198.51.100.7']);
  });

  test('what could not be written down is no clean end', async () => {
    const stdin = new PassThrough();
    const failing: DaemonBlocklist = {
      ...blocklistDouble(() => 'blocked'),
      settle: () => Promise.reject(new Error('no disk')),
    };
    const { running } = start(configOf('stdin: true'), { stdin, open: () => failing });
    stdin.end(lines('198.51.100.7'));
    await expect(running).rejects.toMatchObject({ code: 'ledger_behind' });
  });

  test('a signal ends it before', async () => {
    const stdin = new PassThrough();
    const { running, stop, said, targets } = start(configOf('stdin: true'), { stdin });
    await said.waitFor('ready');
    stdin.write(`${lines('198.51.100.7')}{"rule":"half`);
    await said.waitFor('decision');
    stop.abort();
    await running;
    expect(targets()).toEqual(['198.51.100.7']);
    expect(said.of('stopping')[0]).toMatchObject({ why: 'aborted' });
  });
});

describe('followed', () => {
  test('it goes on until it is told to stop, and the next run goes on from there', async () => {
    const config = configOf(`files: [{ path: ${log} }]`);
    const first = start(config);
    expect(await first.said.waitFor('waiting for the file')).toMatchObject({ path: log });
    writeFileSync(log, lines('198.51.100.7'));
    await first.said.waitFor('decision');
    first.stop.abort();
    await first.running;
    appendFileSync(log, lines('198.51.100.8'));
    const second = start(config);
    expect(await second.said.waitFor('following')).toMatchObject({ path: log, offset: lines('198.51.100.7').length });
    await second.said.waitFor('decision');
    second.stop.abort();
    await second.running;
    expect(second.targets()).toEqual(['198.51.100.8']);
  });

  test('stdin ends, the file and HTTP go on', async () => {
    writeFileSync(log, '');
    const stdin = new PassThrough();
    const config = parseConfig(`http: { port: 0 }\nstdin: true\nfiles: [{ path: ${log} }]`, 'test');
    const { said, stop, running, targets } = start(config, { stdin });
    stdin.end(lines('198.51.100.7'));
    await said.waitFor('read to its end');
    await said.waitFor('decision');
    appendFileSync(log, lines('198.51.100.8'));
    while (targets().length < 2) await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    await running;
    expect(said.of('listening')).toHaveLength(1);
  });

  test('what was not verified is read again: the position waits until maps and ledger were compared', async () => {
    writeFileSync(log, lines('198.51.100.7'));
    const double = blocklistDouble(() => 'blocked');
    let isFailing = true;
    const blocklist: DaemonBlocklist = {
      ...double,
      settle: () => (isFailing ? Promise.reject(new Error('no disk')) : Promise.resolve()),
    };
    const config = configOf(`files: [{ path: ${log} }]`);
    const first = start(config, { open: () => blocklist });
    await first.said.waitFor('blocks not verified yet');
    isFailing = false;
    first.stop.abort();
    await first.running;
    const second = start(config);
    await second.said.waitFor('decision');
    second.stop.abort();
    await second.running;
    expect(second.targets()).toEqual(['198.51.100.7']);
  });

  test('lines without sense are said once, and counted', async () => {
    mkdirSync(join(directory, 'd'));
    writeFileSync(log, `${'x\n'.repeat(500)}${lines('198.51.100.7')}`);
    const { said, stop, running } = start(configOf(`files: [{ path: ${log} }]`));
    await said.waitFor('decision');
    stop.abort();
    await running;
    expect(said.of('a line is no alert')).toHaveLength(1);
    expect(said.of('stopped')[0]).toMatchObject({ sources: { [`file:${log}`]: { received: 501, bad: 500 } } });
  });
});

describe('what was typed', () => {
  const configured = parseConfig('stdin: true\nfiles: [{ path: /a }, { path: /f, fleet_hosts: [web-2] }]', 'test');
  const ours = { remote: false, fleetHosts: [] };
  const fleet = { path: '/f', remote: true, fleetHosts: ['web-2'] };
  const sources = (options: Readonly<Record<string, unknown>>) => {
    const { http, lines: chosen } = withSources({ options }, configured);
    return { http: http.enabled, ...chosen };
  };

  test.each<[string, Readonly<Record<string, unknown>>, unknown]>([
    [
      'nothing',
      {},
      {
        http: true,
        stdin: true,
        files: [
          { path: '/a', follow: true, ...ours },
          { ...fleet, follow: true },
        ],
      },
    ],
    ['--stdin', { stdin: true }, { http: false, stdin: true, files: [] }],
    ['--stdin --http', { stdin: true, http: true }, { http: true, stdin: true, files: [] }],
    ['--file', { file: ['/b'] }, { http: false, stdin: false, files: [{ path: '/b', follow: false, ...ours }] }],
    [
      '--file that is configured',
      { file: ['/f'] },
      { http: false, stdin: false, files: [{ ...fleet, follow: false }] },
    ],
    [
      'twice the same',
      { file: ['/b', '/x/../b'] },
      { http: false, stdin: false, files: [{ path: '/b', follow: false, ...ours }] },
    ],
    [
      '--file --follow, relative',
      { file: ['b', '/c'], follow: true },
      {
        http: false,
        stdin: false,
        files: [
          { path: join(process.cwd(), 'b'), follow: true, ...ours },
          { path: '/c', follow: true, ...ours },
        ],
      },
    ],
  ])('%s', (_name, options, expected) => {
    expect(sources(options)).toEqual(expected);
  });

  test('--follow without a file', () => {
    expect(() => sources({ follow: true })).toThrowError(expect.objectContaining({ code: 'usage' }));
  });
});
