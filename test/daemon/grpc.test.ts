import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServerCredentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withSources } from '../../src/cli/run.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { runDaemon } from '../../src/daemon/daemon.ts';
import { type Certificates, makeCertificates } from '../sources/grpc/certificates.ts';
import { encodeAlert, type FakeFalco, startFalco } from '../sources/grpc/falco.ts';
import { blocklistDouble, canary, logDouble } from './double.ts';

let directory = '';
const falcos: FakeFalco[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fd-daemon-grpc-'));
});
afterEach(() => {
  for (const { kill } of falcos.splice(0)) kill();
  rmSync(directory, { recursive: true });
});

/** As Falco sends it with `json_output`, and, if not whole, without. */
function message(client: string, isWhole = true, rest: Record<string, unknown> = {}): Buffer {
  const line = canary(client, rest);
  const { time, rule, source, output_fields: fields } = JSON.parse(line) as Record<string, string>;
  const milliseconds = Date.parse(time ?? '');
  // Nine decimals, as Falco's own.
  const output = line.replace(time ?? '', (time ?? '').replace('Z', '000000Z'));
  return encodeAlert({
    time: { seconds: Math.floor(milliseconds / 1000), nanos: (milliseconds % 1000) * 1_000_000 },
    priority: 'WARNING',
    rule,
    source,
    output: isWhole ? output : `12:00:00.000000000: Warning a connection | connection=${client}`,
    hostname: rest.hostname ?? '',
    output_fields: Object.fromEntries(Object.entries(fields ?? {}).map(([key, value]) => [key, String(value)])),
  });
}

function start(config: Config) {
  const log = logDouble();
  const blocklist = blocklistDouble(() => 'blocked');
  const stop = new AbortController();
  const running = runDaemon({
    config,
    pinDir: directory,
    stateDir: directory,
    signal: stop.signal,
    open: () => blocklist,
    log,
  });
  return { log, blocklist, running, stop: () => stop.abort() };
}

async function falcoAt(listen: string, credentials?: ServerCredentials): Promise<FakeFalco> {
  const falco = await startFalco(credentials === undefined ? { listen } : { listen, credentials });
  falcos.push(falco);
  return falco;
}

describe('a Falco asked over gRPC', () => {
  test('of another host: its alerts count where fleet_hosts name it, and no others', async () => {
    const listen = `unix://${directory}/falco.sock`;
    const falco = await falcoAt(listen);
    const of = (client: string, hostname: string) => message(client, true, { hostname });
    falco.queue.push(of('198.51.100.7', 'web-2'), of('198.51.100.8', 'web-3'));
    const where = `grpc: [{ address: ${listen}, fleet_hosts: [web-2] }]`;
    const config = parseConfig(`http: { enabled: false }\nautomatic: enforce\n${where}`, 'test');
    const { log, running, stop } = start(config);
    while (log.of('decision').length < 2) await log.waitFor('decision').then(() => new Promise(setImmediate));
    stop();
    await running;
    expect(log.of('decision').map(({ offender, reason }) => [offender, reason])).toMatchObject([
      ['198.51.100.7', expect.not.stringMatching('other_host')],
      [null, 'other_host'],
    ]);
  });

  test('its alerts are judged, counted by its address, and at the stop it is left', async () => {
    const listen = `unix://${directory}/falco.sock`;
    const falco = await falcoAt(listen);
    falco.queue.push(message('198.51.100.7'), message('198.51.100.8', false), Buffer.from('x'));
    const config = parseConfig(`http: { enabled: false }\nautomatic: enforce\ngrpc: [{ address: ${listen} }]`, 'test');
    const { log, blocklist, running, stop } = start(config);
    expect(await log.waitFor('connected')).toMatchObject({ level: 'info', source: `grpc:${listen}`, falco: '0.43.1' });
    await log.waitFor('a message is no alert');
    while (blocklist.wishes.length < 2) await log.waitFor('decision').then(() => new Promise(setImmediate));
    stop();
    await running;
    expect(blocklist.wishes).toHaveLength(2);
    expect(log.of('decision').map(({ offender, source }) => [offender, source])).toEqual([
      ['198.51.100.7', `grpc:${listen}`],
      ['198.51.100.8', `grpc:${listen}`],
    ]);
    expect(log.of('stopped')[0]).toMatchObject({
      sources: { [`grpc:${listen}`]: { received: 3, bad: 1, tooLong: 0, shed: 0, decided: 2 } },
    });
    expect(log.of('no source of alerts is enabled')).toEqual([]);
    expect(falco.seen.subs).toBe(0);
  });

  test('a backlog is taken with its age: what is too old is refused', async () => {
    const listen = `unix://${directory}/falco.sock`;
    const falco = await falcoAt(listen);
    const hourAgo = new Date(Date.now() - 3_600_000).toISOString();
    falco.queue.push(message('198.51.100.7', true, { time: hourAgo }), message('198.51.100.8'));
    const config = parseConfig(`http: { enabled: false }\nautomatic: enforce\ngrpc: [{ address: ${listen} }]`, 'test');
    const { log, blocklist, running, stop } = start(config);
    expect(await log.waitFor('backlog taken')).toMatchObject({ alerts: 2 });
    while (log.of('decision').length < 2) await new Promise(setImmediate);
    stop();
    await running;
    expect(log.of('decision').map(({ reason }) => reason)).toEqual(['stale', 'offender']);
    expect(blocklist.wishes).toHaveLength(1);
  });

  test('over TCP, by the files that are named; a key that everybody may read is not used', async () => {
    const made = makeCertificates(directory);
    const pair = { cert_chain: Buffer.from(made.server.cert), private_key: Buffer.from(made.server.key) };
    const falco = await falcoAt('127.0.0.1:0', ServerCredentials.createSsl(Buffer.from(made.ca.cert), [pair], true));
    falco.queue.push(message('198.51.100.7'));
    chmodSync(made.client.keyFile, 0o644);
    const config = parseConfig(
      `http: { enabled: false }
grpc:
  - address: "127.0.0.1:${falco.port}"
    tls: { ca: ${made.ca.certFile}, cert: ${made.client.certFile}, key: { file: ${made.client.keyFile} }, name: localhost }`,
      'test',
    );
    const { log, running, stop } = start(config);
    expect(await log.waitFor('not connected; it is tried again')).toMatchObject({
      problem: expect.stringContaining('everybody may read'),
    });
    chmodSync(made.client.keyFile, 0o600);
    await log.waitFor('decision');
    stop();
    await running;
  });

  test.each<[string, (made: Certificates) => Readonly<Record<'ca' | 'cert' | 'key', string>>, RegExp]>([
    [
      'a CA that is no certificate',
      ({ client }) => ({ ca: client.keyFile, cert: client.certFile, key: client.keyFile }),
      /^\/.*\/.*: there is no certificate in it/,
    ],
    [
      'a certificate that is not there',
      ({ ca, client }) => ({ ca: ca.certFile, cert: `${client.certFile}.none`, key: client.keyFile }),
      /^\/.*\.none: there is no such file/,
    ],
    [
      "another certificate's key",
      ({ ca, client, strangeClient }) => ({ ca: ca.certFile, cert: client.certFile, key: strangeClient.keyFile }),
      /^grpc\.tls\.key: it is not the key of grpc\.tls\.cert/,
    ],
    [
      'a key that is none',
      ({ ca, client }) => ({ ca: ca.certFile, cert: client.certFile, key: client.certFile }),
      /^\/.*: there is no private key in it/,
    ],
  ])('%s: said in words', async (_, files, problem) => {
    const made = makeCertificates(directory);
    chmodSync(made.client.certFile, 0o600);
    const { ca, cert, key } = files(made);
    const tls = `{ ca: ${ca}, cert: ${cert}, key: { file: ${key} } }`;
    const config = parseConfig(`http: { enabled: false }\ngrpc: [{ address: "127.0.0.1:1", tls: ${tls} }]`, 'test');
    const { log, running, stop } = start(config);
    expect(await log.waitFor('not connected; it is tried again')).toMatchObject({
      problem: expect.stringMatching(problem),
    });
    stop();
    await running;
  });

  test('beside a file, in one queue; a Falco that is not there keeps nothing from starting or stopping', async () => {
    const file = join(directory, 'alerts.jsonl');
    writeFileSync(file, `${canary('198.51.100.7')}\n`);
    const { log, running, stop } = start(
      parseConfig(
        `http: { enabled: false }\nfiles: [{ path: ${file}, follow: false }]\ngrpc: [{ address: unix://${directory}/none.sock }]`,
        'test',
      ),
    );
    await log.waitFor('decision');
    expect(await log.waitFor('not connected; it is tried again')).toMatchObject({ level: 'warn' });
    await log.waitFor('read to its end');
    stop();
    await running;
    expect(log.of('stopping')[0]).toMatchObject({ why: 'aborted' });
  });

  test('switched off: no source at all', async () => {
    const { log, running, stop } = start(
      parseConfig('http: { enabled: false }\ngrpc: [{ address: unix:///none, enabled: false }]', 'test'),
    );
    await log.waitFor('no source of alerts is enabled');
    stop();
    await running;
  });

  test('sources that were typed are all there are', () => {
    const configured = parseConfig('grpc: [{ address: unix:///x }]', 'test');
    expect(withSources({ options: { stdin: true } }, configured).grpc).toEqual([]);
    expect(withSources({ options: {} }, configured).grpc).toHaveLength(1);
  });
});
