import { appendFileSync, chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { command } from '../cli/falcodrop.ts';
import { ended } from '../kernel/lab.ts';
import { differences, type Edge, heldIn, openEdge, type Ways } from './edge.ts';
import { alertAtEdge, listenTo, type Run } from './running.ts';

const stepNames = ['sent', 'received', 'decided', 'in_map', 'recorded', 'withdrawn'];

let edge: Edge;
let log = '';
beforeEach(() => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\n' });
  log = join(edge.lab.directory, 'alerts.jsonl');
  edge.attach();
});
afterEach(async () => {
  edge.purge();
  await edge.lab.close();
});

const configure = (yaml: string): void => appendFileSync(edge.configFile, `${yaml}\n`);

interface Answering extends Run {
  stop(): Promise<void>;
}

/** A daemon that answers at its socket. */
async function start(ways: Ways = {}, args: readonly string[] = []): Promise<Answering> {
  const argv = edge.argv(['run', ...args], ways);
  const run = listenTo(edge.lab.spawn(edge.namespace, argv, { stdio: ['ignore', 'ignore', 'pipe'] }));
  await run.said('socket');
  await run.said('ready');
  return {
    ...run,
    stop: async () => {
      run.child.kill('SIGTERM');
      await ended(run.child);
      expect(run.child.exitCode).toBe(0);
    },
  };
}

const alert = (client: string, more: Record<string, unknown> = {}): string => `${alertAtEdge(client, more)}\n`;

interface Told {
  readonly source: string;
  readonly through: string;
  readonly target: string;
  readonly status: string;
  readonly steps: readonly { readonly step: string; readonly after_ms: number; readonly detail: string | null }[];
}

/** All steps in order, and nothing left but the history. */
function passed(args: readonly string[], ways: Ways = {}): Told {
  const { said } = edge.json(0, ['test-alert', ...args], ways);
  expect(said).toHaveLength(1);
  const told = said[0] as unknown as Told;
  expect(told).toMatchObject({ through: 'source', rule: 'Falcodrop Test Alert', status: 'passed' });
  expect(told.steps.map(({ step }) => step)).toEqual(stepNames);
  const times = told.steps.map(({ after_ms: ms }) => ms);
  expect(times.every((ms) => ms >= 0 && ms < 20_000)).toBe(true);
  expect(told.target).toMatch(/^(203\.0\.113|198\.51\.100|192\.0\.2)\.\d+$/);
  expect(heldIn(edge.lab.pinDir).has(told.target)).toBe(false);
  expect(edge.json(0, ['list']).said.filter(({ target }) => target === told.target)).toEqual([]);
  const history = edge.json(0, ['history', told.target]).said;
  expect(history.map(({ action, mode, owner }) => [action, mode, owner])).toEqual([
    ['withdrawn', null, 'policy:test-alert'],
    ['made', 'monitor', 'policy:test-alert'],
  ]);
  return told;
}

const failed = (code: string, args: readonly string[], ways: Ways = {}, status = 1) => {
  const { said, errors } = edge.json(status, ['test-alert', ...args], ways);
  expect(errors).toMatchObject([{ code, message: expect.any(String), hint: expect.any(String) }]);
  return { told: (said[0] ?? null) as unknown as Told | null, error: errors[0] as { message: string; hint: string } };
};

const sourcesNow = () => edge.json(0, ['sources']).said as Record<string, unknown>[];

describe('sources', () => {
  test('each with state, counts, lag, last alert and last error; kept for when no daemon runs', async () => {
    const missing = join(edge.lab.directory, 'missing.jsonl');
    const socket = join(edge.lab.directory, 'http.sock');
    configure(`http: { port: 0, socket: ${socket} }\nfiles: [{ path: ${log} }, { path: ${missing} }]`);
    configure('grpc: [{ address: "unix:///nonexistent/falco.sock" }]');
    writeFileSync(log, `${alert('203.0.113.7')}garbage\n${alert('203.0.113.8', { rule: 'A rule\u001b[7m\u202e' })}`);
    const run = await start();
    await expect.poll(() => run.lines.filter(({ msg }) => msg === 'decision').length, { timeout: 20_000 }).toBe(2);
    await run.said('not connected; it is tried again');
    const all = Object.fromEntries(sourcesNow().map((source) => [source.source, source]));
    expect(Object.keys(all)).toEqual([
      'http',
      'http:unix',
      `file:${log}`,
      `file:${missing}`,
      'grpc:unix:///nonexistent/falco.sock',
    ]);
    expect(all.http).toMatchObject({
      kind: 'http',
      state: 'listening',
      place: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) as string,
      last_alert: null,
      last_error: null,
      lag: null,
    });
    expect(all['http:unix']).toMatchObject({ kind: 'unix', state: 'listening', place: socket });
    expect(all[`file:${log}`]).toMatchObject({
      kind: 'file',
      state: 'following',
      lag: { amount: 0, unit: 'bytes' },
      counts: { received: 3, bad: 1, decided: 2, duplicate: 0, stale: 0, other_host: 0, shed: 0, too_long: 0 },
      last_minute: 3,
      last_alert: { rule: 'A rule\u001b[7m\u202e', delay_seconds: expect.any(Number) as number },
      last_error: { message: expect.stringContaining('a line is no alert') as string },
      silent: false,
    });
    expect(all[`file:${missing}`]).toMatchObject({ state: 'waiting' });
    expect(all['grpc:unix:///nonexistent/falco.sock']).toMatchObject({
      state: 'failed',
      last_error: { message: 'the socket is not there yet' },
    });

    const text = edge.must(['sources']);
    expect(text).toContain('A rule\\u001b[7m\\u202e');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that they are absent is what is tested
    expect(text).not.toMatch(/[\u001b\u202e]/);
    const wide = edge.lab.run(edge.namespace, 'script', '-qec', `stty cols 80; ${quoted(['sources'])}`, '/dev/null');
    const rows = wide.stdout.split(/\r?\n/).slice(0, 6);
    expect(rows[0]).toContain('SOURCE');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours take no columns
    expect(rows.filter((row) => row.replaceAll(/\u001b\[\d+m/g, '').length > 80)).toEqual([]);

    const status = edge.must(['status']);
    expect(status).toContain('sources   http (listening)');
    expect(status).toContain('warning   grpc:unix:///nonexistent/falco.sock has failed: the socket is not there yet');
    expect(edge.json(0, ['status']).said[0]?.sources).toMatchObject([
      { source: 'http', state: 'listening' },
      {},
      {},
      {},
      {},
    ]);

    await run.stop();
    const { said, errors } = edge.json(4, ['sources']);
    expect(errors).toMatchObject([{ code: 'daemon_absent', hint: expect.stringContaining('falcodrop run') as string }]);
    expect(said.find(({ source }) => source === `file:${log}`)).toMatchObject({
      kind: 'file',
      state: null,
      counts: null,
      last_alert: { rule: 'A rule\u001b[7m\u202e' },
    });
    expect(edge.json(0, ['status']).said[0]?.sources).toBeNull();
    expect(edge.run(['sources']).stdout).toContain('no daemon');

    const again = await start();
    expect(sourcesNow().find(({ source }) => source === `file:${log}`)).toMatchObject({
      counts: { received: 0 },
      last_alert: { rule: 'A rule\u001b[7m\u202e' },
    });
    await again.stop();
  });

  test('names in JSON are frozen: add, never rename', async () => {
    configure('http: { port: 0 }');
    const run = await start();
    const [source = {}] = sourcesNow();
    expect(Object.keys(source)).toEqual([
      ...['source', 'kind', 'place', 'state', 'since', 'last_minute', 'lag', 'counts', 'last_alert', 'last_error'],
      ...['silent', 'silent_seconds', 'usual_silence_seconds'],
    ]);
    expect(Object.keys(source.counts as object)).toEqual([
      ...['received', 'bad', 'too_long', 'duplicate', 'shed', 'decided', 'stale', 'other_host'],
    ]);
    const told = passed([]);
    expect(Object.keys(told)).toEqual(['source', 'through', 'target', 'rule', 'status', 'steps']);
    expect(Object.keys(told.steps[0] ?? {})).toEqual(['step', 'at', 'after_ms', 'detail']);
    await run.stop();
  });

  test('a habit that was kept, and is exceeded: a warning here and in status, and no other exit status', async () => {
    configure('http: { port: 0 }');
    mkdirSync(edge.stateDir, { recursive: true });
    const day = 86_400_000;
    const habit = {
      listened_ms: 10 * day,
      heard_at_ms: 9.5 * day,
      days: [1, 2, 3].map((n) => [n, 20 * 60_000]),
    };
    const kept = { kind: 'http', last_alert: { at_ms: 1, rule: 'Long ago', delay_seconds: null }, habit };
    writeFileSync(join(edge.stateDir, 'sources.json'), JSON.stringify({ version: 1, sources: [['http', kept]] }));
    const run = await start();
    expect(sourcesNow()).toMatchObject([
      { source: 'http', silent: true, usual_silence_seconds: 1200, last_alert: { rule: 'Long ago' } },
    ]);
    expect(edge.must(['sources'])).toContain('warning: http is silent for 12h, and was not for longer than 20m lately');
    expect(edge.must(['status'])).toContain('warning   http is silent for 12h');
    expect(edge.json(0, ['status']).said[0]?.sources).toMatchObject([{ source: 'http', silent: true }]);
    // A test is no sign of life of who sends the others.
    passed([]);
    expect(sourcesNow()).toMatchObject([{ silent: true, last_alert: { rule: 'Long ago' } }]);
    await run.stop();
  });

  test('what was kept and is none of ours is said, and begun anew', async () => {
    configure('http: { port: 0 }');
    mkdirSync(edge.stateDir, { recursive: true });
    writeFileSync(join(edge.stateDir, 'sources.json'), '{"version":1,"sources":');
    const run = await start();
    expect(run.lines.some(({ msg }) => msg.startsWith('what was kept of sources can not be read'))).toBe(true);
    await run.stop();
    expect(JSON.parse(readFileSync(join(edge.stateDir, 'sources.json'), 'utf8'))).toMatchObject({ version: 1 });
  });
});

const quoted = (args: readonly string[]): string =>
  edge
    .argv(args)
    .map((word) => `'${word}'`)
    .join(' ');

describe('test-alert', () => {
  test('over HTTP, a unix socket and a file, armed and not: every step, and nothing left', async () => {
    const socket = join(edge.lab.directory, 'http.sock');
    configure(`http: { port: 0, socket: ${socket} }\nfiles: [{ path: ${log} }]`);
    writeFileSync(log, alert('203.0.113.7'));
    const run = await start();
    expect(passed([]).source).toBe('http');
    expect(passed(['--source', 'http:unix']).source).toBe('http:unix');
    expect(passed(['--source', `file:${log}`]).source).toBe(`file:${log}`);
    // In the middle of somebody's line: that one is spoilt either way, and the test is not.
    appendFileSync(log, '{"half":');
    passed(['--source', `file:${log}`]);
    for (const mode of ['monitor', 'off']) {
      edge.must(['mode', mode]);
      passed([]);
    }
    const text = edge.must(['test-alert']);
    expect(text.split('\n').map((line) => line.split(/ {2,}/)[0])).toEqual([
      expect.stringMatching(/^[\d.]+ through http$/),
      ...['sent', 'received', 'decided', 'in map', 'recorded', 'withdrawn', ''],
    ]);
    // Judged as any: the log has a decision of each, and none dropped.
    const tests = run.lines.filter(({ msg, rule }) => msg === 'decision' && rule === 'Falcodrop Test Alert');
    expect(tests.map(({ applied, outcome }) => [applied, outcome])).toEqual(tests.map(() => ['monitor', 'blocked']));
    await run.stop();
    expect(differences(edge)).toEqual([]);
  });

  test('addresses that somebody has claimed, or that are protected, are left alone', async () => {
    configure('http: { port: 0 }\nguard: { protected: [203.0.113.0/25] }');
    edge.must(['block', '203.0.113.128/25', '--for', '1h']);
    const run = await start();
    // What is left: 198.51.100.0/24 has this host and its gateway, whom the guard leaves out.
    expect(passed([]).target).toMatch(/^198\.51\.100\./);
    edge.must(['block', '198.51.100.64/26', '198.51.100.128/26', '192.0.2.0/24', '--monitor']);
    expect(passed([]).target).toMatch(/^198\.51\.100\.([1-5]?\d|6[0-3]|19[2-9]|2\d\d)$/);
    await run.stop();
    expect(differences(edge)).toEqual([]);
  });

  test('TLS, a secret path, a token; a wrong secret and another certificate name the step', async () => {
    const { directory } = edge.lab;
    const at = (name: string) => join(directory, name);
    const certificate = (name: string) =>
      edge.lab.exec(
        ...([
          null,
          'openssl',
          'req',
          '-x509',
          '-newkey',
          'ec',
          '-pkeyopt',
          'ec_paramgen_curve:P-256',
          '-nodes',
        ] as const),
        ...['-subj', '/CN=edge', '-days', '2', '-keyout', at(`${name}.key`), '-out', at(`${name}.crt`)],
      );
    certificate('one');
    certificate('two');
    for (const name of ['one', 'two']) chmodSync(at(`${name}.key`), 0o600);
    const secret = (name: string, value: string) => writeFileSync(at(name), `${value}\n`, { mode: 0o600 });
    secret('path', 'a-path-that-nobody-guesses');
    const http = (crt: string) =>
      `http: { port: 0, path: { file: ${at('path')} }, tls: { cert: { file: ${at(`${crt}.crt`)} }, key: { file: ${at(`${crt}.key`)} } } }`;
    const before = readFileSync(edge.configFile, 'utf8');
    configure(http('one'));
    const run = await start();
    passed([]);
    secret('path', 'another-path-nobody-guesses');
    const wrong = failed('test_not_sent', []);
    expect(wrong.error).toMatchObject({ message: expect.stringContaining('the answer is 403') as string });
    expect(wrong.told?.status).toBe('failed');
    secret('path', 'a-path-that-nobody-guesses');
    writeFileSync(edge.configFile, `${before}${http('two')}\n`);
    expect(failed('test_not_sent', []).error.message).toContain('another certificate');
    await run.stop();

    secret('token', 'a-token-that-nobody-guesses');
    const clients = `client_ca: { file: ${at('two.crt')} }`;
    const mutual = http('one')
      .replace('tls: {', `tls: { ${clients}, `)
      .replace(/path: \{[^}]*\}/, `token: { file: ${at('token')} }`);
    writeFileSync(edge.configFile, `${before}${mutual}\n`);
    const second = await start();
    expect(failed('test_not_sent', []).error.hint).toContain('--cert client.crt');
    expect(failed('usage', ['--cert', at('two.crt')], {}, 2).error.hint).toContain('both');
    for (const key of ['one.key', 'two.crt', 'token']) {
      const unfit = failed('test_not_sent', ['--cert', at('two.crt'), '--key', at(key)]);
      expect(unfit.error.message).toContain('--cert and --key can not be used');
      expect(unfit.error.message).not.toContain('that-nobody-guesses');
    }
    passed(['--cert', at('two.crt'), '--key', at('two.key')]);
    await second.stop();
  });

  test('sources that take none, are not there, or have no daemon', async () => {
    configure('http: { port: 0 }\ngrpc: [{ address: "unix:///nonexistent/falco.sock" }]');
    expect(failed('daemon_absent', [], {}, 4).told).toBeNull();
    const run = await start();
    const readOnly = failed('source_read_only', ['--source', 'grpc:unix:///nonexistent/falco.sock'], {}, 2);
    expect(readOnly.error.hint).toContain('--through-falco');
    expect(readOnly.error.hint).toContain('http');
    expect(failed('source_missing', ['--source', 'http:\u001b[7munix'], {}, 4).error.message).toContain('http:\\u001b');
    expect(failed('usage', ['--timeout', '1d'], {}, 2).error.hint).toBe('give a shorter one');
    await run.stop();
  });

  test('the steps that fail: not sent, no daemon that answers, not decided', async () => {
    configure(`http: { port: 0 }\nfiles: [{ path: ${log} }]`);
    const run = await start();
    // The file is not there, and is not made.
    expect(failed('test_not_sent', ['--source', `file:${log}`]).error.message).toContain('it is not there');
    expect(existsSync(log)).toBe(false);
    // Stopped, it answers nobody.
    run.child.kill('SIGSTOP');
    try {
      expect(failed('daemon_absent', [], {}, 4).told).toBeNull();
    } finally {
      run.child.kill('SIGCONT');
    }
    // Another port than that of the daemon may be anybody's, who is not shown its secrets.
    const before = readFileSync(edge.configFile, 'utf8');
    writeFileSync(edge.configFile, before.replace('port: 0', 'port: 65000'));
    expect(failed('test_not_sent', []).error.message).toMatch(
      /the daemon listens at port \d+, and http\.port is 65000/,
    );
    writeFileSync(edge.configFile, before);
    // The daemon goes by another name of this host.
    const elsewhere = ['unshare', '--uts', 'sh', '-c', 'hostname elsewhere; exec "$@"', 'sh', command] as const;
    const { error } = failed('test_not_decided', [], { argv: elsewhere });
    expect(error).toMatchObject({
      message: expect.stringContaining('other_host') as string,
      hint: expect.stringContaining('host_aliases') as string,
    });
    await run.stop();
  });

  test('a source that reads nothing: not received', async () => {
    writeFileSync(log, '');
    configure(`http: { enabled: false }\nfiles: [{ path: ${log} }]`);
    const run = await start();
    // Another file of the same name, in a mount namespace of its own.
    const other = join(edge.lab.directory, 'other.jsonl');
    writeFileSync(other, '');
    const line = `mount --bind '${other}' '${log}'; ${quoted(['test-alert', '--timeout', '2s', '--json'])}`;
    const done = edge.lab.run(edge.namespace, 'unshare', '--mount', 'sh', '-c', line);
    expect(done.status).toBe(1);
    expect(done.stderr).toContain('"test_not_received"');
    expect(done.stderr).toContain('nothing came of it within 2 s');
    expect(readFileSync(other, 'utf8')).toContain('Falcodrop Test Alert');
    await run.stop();
  });

  test('a ledger that can not be written: in force, and not recorded; it ends by itself', async () => {
    configure('http: { port: 0 }');
    const run = await start();
    passed([]);
    // Held by somebody else, as an old backup program does.
    const holder = edge.lab.spawn(
      null,
      [
        'python3',
        '-c',
        `import sqlite3,sys,time
c=sqlite3.connect('${join(edge.stateDir, 'ledger.db')}',isolation_level=None)
c.execute('BEGIN EXCLUSIVE')
print('held',flush=True)
time.sleep(60)`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await new Promise((resolve) => holder.stdout?.once('data', resolve));
    try {
      const { told } = failed('test_not_recorded', ['--timeout', '3s']);
      expect(told?.steps.map(({ step }) => step)).toEqual(stepNames.slice(0, 4));
    } finally {
      holder.kill('SIGKILL');
      await ended(holder);
    }
    await run.stop();
  });

  test('a daemon on other pins: not in the map', async () => {
    configure('http: { port: 0 }');
    const run = await start();
    const place = sourcesNow()[0]?.place;
    const environment = { FALCODROP_PIN_DIR: join(edge.lab.bpffs, 'other') };
    edge.lab.exec(edge.namespace, 'ip', 'link', 'add', 'd0', 'type', 'veth', 'peer', 'name', 'd1');
    edge.must(['attach', 'd0', '--xdp', 'generic', '--addresses', '64', '--prefixes', '64'], { environment });
    try {
      const { error, told } = failed('test_not_in_map', [], { environment });
      expect(error.hint).toContain('FALCODROP_PIN_DIR');
      expect(told?.steps.map(({ step }) => step)).toEqual(stepNames.slice(0, 3));
      expect(sourcesNow()[0]).toMatchObject({ place });
    } finally {
      edge.must(['detach', '--all', '--purge'], { environment });
    }
    await run.stop();
  });

  test('a ledger that this command can not open: not withdrawn, and it ends by itself', async () => {
    const service = [54_321, 54_322] as const;
    edge.purge();
    const before = readFileSync(edge.configFile, 'utf8');
    writeFileSync(
      edge.configFile,
      before.replace(/user: "0", group: "0"/, `user: "${service[0]}", group: "${service[1]}"`),
    );
    configure('http: { port: 0 }');
    chmodSync(edge.lab.directory, 0o755);
    edge.attach();
    const run = await start({ as: service });
    passed([], { as: service });
    // The daemon has it open already.
    chownSync(join(edge.stateDir, 'ledger.db'), 0, 0);
    chmodSync(join(edge.stateDir, 'ledger.db'), 0o600);
    const { told } = failed('test_not_withdrawn', [], { as: service });
    expect(told?.steps.map(({ step }) => step)).toEqual(stepNames.slice(0, 5));
    chownSync(join(edge.stateDir, 'ledger.db'), ...service);
    chmodSync(join(edge.stateDir, 'ledger.db'), 0o640);
    await run.stop();
  });

  test('as a member of the service’s group alone, and as root of a service', async () => {
    const service = [54_321, 54_322] as const;
    edge.purge();
    writeFileSync(
      edge.configFile,
      readFileSync(edge.configFile, 'utf8').replace(
        /user: "0", group: "0"/,
        `user: "${service[0]}", group: "${service[1]}"`,
      ),
    );
    configure(`http: { port: 0 }\nfiles: [{ path: ${log} }]`);
    writeFileSync(log, '', { mode: 0o644 });
    chmodSync(edge.lab.directory, 0o755);
    edge.attach();
    const run = await start({ as: service });
    passed([], { as: service });
    passed([]);
    // Root's own log: root may, the service may not.
    passed(['--source', `file:${log}`]);
    expect(failed('test_not_sent', ['--source', `file:${log}`], { as: service }).error.hint).toContain('sudo');
    expect(edge.json(5, ['sources'], { as: [65_534, 65_534] }).errors).toMatchObject([{ code: 'not_permitted' }]);
    expect(edge.json(0, ['sources'], { as: service }).said).toHaveLength(2);
    await run.stop();
  });

  test('from a hostile sender: a marked alert is judged, guarded and only counts, for seconds, on addresses of nobody', async () => {
    configure('http: { port: 0 }');
    const run = await start();
    const [{ place = '' } = {}] = sourcesNow() as { place?: string }[];
    const send = (client: string, more: Record<string, unknown> = {}) =>
      edge.lab.exec(
        ...([
          edge.namespace,
          'curl',
          '-sS',
          '--fail',
          '-d',
          alert(client, { rule: 'falcodrop TEST alert', ...more }),
          place,
        ] as const),
      );
    send('203.0.113.50');
    send('198.18.0.66');
    send('198.51.100.1');
    send('198.51.100.254');
    send('203.0.113.51', { hostname: 'another' });
    const decisions = () => run.lines.filter(({ msg }) => msg === 'decision');
    await expect.poll(() => decisions().length, { timeout: 20_000 }).toBe(5);
    expect(decisions().map(({ reason, applied, outcome }) => [reason, applied, outcome])).toEqual([
      ['offender', 'monitor', 'blocked'],
      ['test_address', null, null],
      ['own_address', null, null],
      ['gateway', null, null],
      ['other_host', null, null],
    ]);
    const held = heldIn(edge.lab.pinDir);
    expect([...held.keys()]).toEqual(['203.0.113.50']);
    expect(held.get('203.0.113.50')).toMatchObject({ dropSeconds: 0 });
    expect(held.get('203.0.113.50')?.countSeconds).toBeLessThanOrEqual(10);
    await run.stop();
  });
});

describe('test-alert in the journal', () => {
  test('root, as systemd-cat under the name of falco; stand-ins of systemd', async () => {
    const { directory } = edge.lab;
    const bin = join(directory, 'bin');
    const journal = join(directory, 'journal.jsonl');
    mkdirSync(bin);
    writeFileSync(journal, '');
    // Entries as journald would make them: who sends is told by the kernel.
    const script = (name: string, text: string) =>
      writeFileSync(join(bin, name), `#!/bin/bash\n${text}`, { mode: 0o755 });
    script('journalctl', `case " $* " in *" --follow "*) exec tail -n +1 -f '${journal}';; esac`);
    script(
      'systemd-cat',
      `shift; coproc W { while read -r line; do
  jq -cn --arg m "$line" --arg c "$(cat /proc/$$/comm)" --arg u "$(id -u)" '{__CURSOR:"s=1;b=1",_COMM:$c,_UID:$u,MESSAGE:$m}' >> '${journal}'
done; }
exec "$@" >&"\${W[1]}"`,
    );
    configure('http: { enabled: false }\njournal: { enabled: true }');
    const environment = { PATH: `${bin}:${process.env.PATH ?? ''}` };
    const run = await start({ environment });
    expect(passed([], { environment }).source).toBe('journal');
    const entry = JSON.parse(readFileSync(journal, 'utf8')) as Record<string, string>;
    expect(entry).toMatchObject({ _COMM: 'falco', _UID: '0' });
    expect(sourcesNow()).toMatchObject([{ source: 'journal', kind: 'journal', state: 'following' }]);
    await run.stop();
    const before = readFileSync(edge.configFile, 'utf8');
    writeFileSync(
      edge.configFile,
      before.replace('journal: { enabled: true }', `journal: { enabled: true, directory: ${directory} }`),
    );
    expect(failed('source_read_only', [], { environment }, 2).error.message).toContain('written by another');
    writeFileSync(
      edge.configFile,
      before.replace('enabled: true }', 'enabled: true, matches: ["_COMM=falco _UID=7"] }'),
    );
    expect(failed('source_read_only', [], { environment }, 2).error.message).toContain('journal.matches');
  });
});

describe('test-alert --through-falco', () => {
  /** What Falco does with our rule: it sees an accept on a canary port and posts its alert. */
  const standIn = (place: string, hostname = 'edge') => {
    const text = `import { createServer } from 'node:net';
createServer(async (socket) => {
  const name = '127.0.0.1:' + socket.remotePort + '->127.0.0.1:' + socket.localPort;
  const fields = { 'evt.type': 'accept4', 'fd.type': 'ipv4', 'fd.l4proto': 'tcp', 'fd.name': name };
  const alert = { time: new Date().toISOString(), rule: 'Connection to Canary Port', priority: 'Warning', source: 'syscall', hostname: '${hostname}', output: '', output_fields: fields };
  await fetch('${place}', { method: 'POST', body: JSON.stringify(alert) });
  socket.end();
}).listen(2323, '127.0.0.1', () => console.log('listening'));`;
    const script = join(edge.lab.directory, 'stand-in.mjs');
    writeFileSync(script, text);
    return edge.lab.spawn(edge.namespace, [process.execPath, script], { stdio: ['ignore', 'pipe', 'inherit'] });
  };

  test('a stand-in sees the connection, and the guard refuses this host as the offender', async () => {
    configure('http: { port: 0 }');
    edge.lab.exec(edge.namespace, 'ip', 'link', 'set', 'lo', 'up');
    let run = await start();
    const left = edge.lab.spawn(edge.namespace, edge.argv(['test-alert', '--through-falco', '--timeout', '5m']), {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let saidOfEnd = '';
    left.stderr?.on('data', (text: Buffer) => {
      saidOfEnd += text.toString();
    });
    await new Promise<void>((resolve) => {
      left.stdout?.on('data', (text: Buffer) => {
        if (text.toString().includes('sent')) resolve();
      });
    });
    await run.stop();
    await ended(left);
    expect(saidOfEnd).toContain('before the daemon has ended');
    run = await start();
    const nobody = failed('test_not_received', ['--through-falco', '--timeout', '1s']);
    expect(nobody.error.hint).toContain('falcodrop setup falco');
    expect(nobody.told).toMatchObject({ through: 'falco', status: 'failed' });
    expect(failed('ports_invalid', ['--through-falco', '--port', '0'], {}, 2).error.message).toContain('no TCP port');
    expect(failed('source_missing', ['--through-falco', '--source', 'journal'], {}, 4).error.hint).toContain('http');

    const [{ place = '' } = {}] = sourcesNow() as { place?: string }[];
    const falco = standIn(place);
    await new Promise((resolve) => falco.stdout?.once('data', resolve));
    try {
      const { said } = edge.json(0, ['test-alert', '--through-falco', '--source', 'http']);
      const [told] = said as unknown as Told[];
      expect(told).toMatchObject({ source: 'http', through: 'falco', target: '127.0.0.1', status: 'passed' });
      expect(told?.steps.map(({ step }) => step)).toEqual(['sent', 'received', 'decided']);
      expect(told?.steps[2]?.detail).toContain('own_address');
      expect(heldIn(edge.lab.pinDir).size).toBe(0);
      expect(edge.must(['test-alert', '--through-falco'])).toContain('seen by Falco');
      // It was Falco's, so it counts as a sign of life.
      expect(sourcesNow()).toMatchObject([{ last_alert: { rule: 'Connection to Canary Port' } }]);
    } finally {
      falco.kill('SIGKILL');
      await ended(falco);
    }
    const contained = standIn(place, '0123456789ab');
    await new Promise((resolve) => contained.stdout?.once('data', resolve));
    try {
      expect(failed('test_not_decided', ['--through-falco']).error.hint).toContain('in a container by its id');
    } finally {
      contained.kill('SIGKILL');
      await ended(contained);
    }
    await run.stop();
  });
});
