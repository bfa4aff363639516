import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { runDaemon } from '../../src/daemon/daemon.ts';
import { pinsReadiness } from '../../src/daemon/http.ts';
import { openPki, type Pki } from '../sources/http/pki.ts';
import { openTlsWire, openUnixWire, openWire, post, type Wire } from '../sources/wire.ts';
import { blocklistDouble, canary, type LogDouble, logDouble } from './double.ts';

let folder = '';
let pki: Pki;
let authorities = 0;
beforeAll(() => {
  pki = openPki();
});
afterAll(() => pki.remove());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-http-'));
});

const running: { stop: AbortController; ended: Promise<void>; wires: Wire[] }[] = [];
afterEach(async () => {
  for (const { stop, ended, wires } of running.splice(0)) {
    for (const wire of wires) wire.close();
    stop.abort();
    await ended;
  }
  rmSync(folder, { recursive: true });
});

const token = 'tokentokentokentoken-1';
const other = 'tokentokentokentoken-2';
const write = (name: string, text: string, mode = 0o600): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
};

interface Started {
  readonly log: LogDouble;
  readonly blocklist: ReturnType<typeof blocklistDouble>;
  readonly port: number;
  readonly wires: Wire[];
  readonly stop: () => Promise<void>;
}

async function start(text: string, environment: NodeJS.ProcessEnv = {}): Promise<Started> {
  const log = logDouble();
  const blocklist = blocklistDouble(() => 'blocked');
  const stop = new AbortController();
  const config = parseConfig(`automatic: enforce\n${text}`, 'test');
  const common = { pinDir: folder, stateDir: folder, signal: stop.signal, open: () => blocklist, log, environment };
  const wires: Wire[] = [];
  const ended = runDaemon({ config, ...common });
  running.push({ stop, ended, wires });
  await log.waitFor('ready');
  return {
    log,
    blocklist,
    port: Number(log.of('listening')[0]?.port ?? 0),
    wires,
    stop: async () => {
      stop.abort();
      await ended;
    },
  };
}

const refused = async (text: string, environment: NodeJS.ProcessEnv = {}): Promise<unknown> => {
  const log = logDouble();
  const config = parseConfig(text, 'test');
  const blocklist = blocklistDouble(() => 'blocked');
  const ended = runDaemon({ config, pinDir: folder, stateDir: folder, open: () => blocklist, log, environment });
  const error: unknown = await ended.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(blocklist.calls).toEqual(['close']);
  expect(`${JSON.stringify(log.lines)}${String(error)}`).not.toContain(token);
  return error;
};

const bearer = (secret: string) => ({ headers: `Authorization: Bearer ${secret}\r\n` });

describe('it refuses to start', () => {
  test('on a wide address without authentication, and names the ways out', async () => {
    expect(await refused('http: { address: 0.0.0.0, port: 0 }')).toMatchObject({
      code: 'authentication_missing',
      message: 'HTTP on 0.0.0.0 would take alerts from whoever reaches it',
      hint: expect.stringMatching(/http\.token.*http\.tls\.client_ca.*127\.0\.0\.1.*http\.socket/),
    });
  });

  test.each<[string, () => string, string, RegExp]>([
    [
      'a secret that everybody may read',
      () => `token: { file: ${write('t', token, 0o644)} }`,
      'config_invalid',
      /everybody may read/,
    ],
    [
      'a secret that can be guessed',
      () => `token: { file: ${write('t', 'falco')} }`,
      'config_invalid',
      /^http\.token: it has less than 16/,
    ],
    ['a secret that is not there', () => `token: { file: ${join(folder, 'none')} }`, 'file_unreadable', /no such file/],
    ['a credential that is not given', () => 'token: { credential: t }', 'config_invalid', /systemd has given none/],
    [
      'a CA without a certificate',
      () => `tls: { client_ca: { file: ${write('ca', 'x')} } }`,
      'tls_invalid',
      /names no certificate/,
    ],
    ['a certificate without a key', () => `tls: { cert: { file: ${write('c', 'x')} } }`, 'tls_invalid', /names no key/],
    ['a CA that everybody may write', () => tlsOf({ mode: 0o666 }), 'config_invalid', /everybody may write it/],
    ['a certificate that is none', () => tlsOf({ cert: 'x' }), 'tls_invalid', /\/cert: there is no certificate in it/],
    ['a key that is none', () => tlsOf({ key: 'x' }), 'tls_invalid', /\/key: there is no private key in it/],
    [
      'the key of another',
      () => tlsOf({ key: otherKey() }),
      'tls_invalid',
      /^http\.tls\.key: it is not the key of http/,
    ],
  ])('with %s', async (_name, settings, code, says) => {
    expect(await refused(`http: { port: 0, ${settings()} }`)).toMatchObject({
      code,
      message: expect.stringMatching(says),
    });
  });
});

const otherKey = (): string => pki.authority('another').issue('another-server').key;

function tlsOf({ mode = 0o644, cert, key }: { mode?: number; cert?: string; key?: string } = {}): string {
  const name = `ca-${authorities++}`;
  const ca = pki.authority(name);
  const server = ca.issue(`${name}-server`);
  const files = [
    `cert: { file: ${write('cert', cert ?? server.cert, 0o644)} }`,
    `key: { file: ${write('key', key ?? server.key)} }`,
    `client_ca: { file: ${write('ca', ca.cert, mode)} }`,
  ];
  return `tls: { ${files.join(', ')} }`;
}

test('TCP for the network and a unix socket at once: origins and counts by name, and the socket goes with it', async () => {
  const socket = join(folder, 'http.sock');
  const settings = `http: { address: 0.0.0.0, port: 0, token: { file: ${write('t', `${token}\n`)} }, socket: ${socket} }`;
  const { log, port, wires, stop, blocklist } = await start(settings);
  expect(log.of('listening')[0]).toMatchObject({ address: '0.0.0.0', tls: false, authentication: ['token'] });
  expect(log.of('listening on a socket')[0]).toMatchObject({ socket });
  expect(log.of('secrets and alerts go over the network in clear text: http.tls')).toHaveLength(1);
  const [tcp, unix] = [await openWire(port), await openUnixWire(socket)];
  wires.push(tcp, unix);
  tcp.send(post(canary('198.51.100.7'), bearer(token)));
  tcp.send(post(canary('198.51.100.8'), bearer(other)));
  unix.send(post(`[${canary('198.51.100.9')},1]`));
  expect([(await tcp.answer()).status, (await tcp.answer()).status]).toEqual([202, 401]);
  expect((await unix.answer()).status).toBe(207);
  unix.send('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(await unix.answer()).toMatchObject({ status: 200, body: 'ready\n' });
  await stop();
  expect(blocklist.wishes).toHaveLength(2);
  expect(log.of('stopped')[0]).toMatchObject({
    sources: { http: { received: 1, decided: 1 }, 'http:unix': { received: 2, bad: 1, decided: 1 } },
    http: { http: { unauthenticated: 1 }, 'http:unix': { unauthenticated: 0 } },
  });
  expect(log.texts.join('')).not.toMatch(/tokentoken/);
  expect(existsSync(socket)).toBe(false);
});

test('only the socket', async () => {
  const socket = join(folder, 'http.sock');
  const { log, wires } = await start(`http: { enabled: false, socket: ${socket} }`);
  expect(log.of('listening')).toEqual([]);
  expect(log.of('no source of alerts is enabled')).toEqual([]);
  const wire = await openUnixWire(socket);
  wires.push(wire);
  wire.send(post(canary('198.51.100.7')));
  expect((await wire.answer()).status).toBe(202);
});

describe('SIGHUP', () => {
  test('reads a token again; one that can not be used leaves the former in force', async () => {
    const path = write('t', token);
    const { log, port, wires } = await start(`http: { port: 0, token: { credential: t } }`, {
      CREDENTIALS_DIRECTORY: folder,
    });
    const status = async (secret: string): Promise<number> => {
      const wire = await openWire(port);
      wires.push(wire);
      wire.send(post(canary('198.51.100.7'), bearer(secret)));
      return (await wire.answer()).status;
    };
    expect([await status(token), await status(other)]).toEqual([202, 401]);
    writeFileSync(path, other);
    expect([await status(token), await status(other)]).toEqual([202, 401]);
    process.emit('SIGHUP', 'SIGHUP');
    expect(await log.waitFor('secrets and certificates of HTTP read again')).toMatchObject({
      authentication: ['token'],
    });
    expect([await status(token), await status(other)]).toEqual([401, 202]);
    for (const bad of ['', 'short', 'a\nb']) {
      writeFileSync(path, bad);
      process.emit('SIGHUP', 'SIGHUP');
    }
    rmSync(path);
    process.emit('SIGHUP', 'SIGHUP');
    expect(log.of('the former secrets and certificates of HTTP go on').map(({ code }) => code)).toEqual([
      ...Array.from({ length: 3 }, () => 'config_invalid'),
      'file_unreadable',
    ]);
    expect([await status(token), await status(other)]).toEqual([401, 202]);
  });

  test('reads certificates again', async () => {
    const ca = pki.authority('hup-ca');
    const [first, second, client] = [ca.issue('hup-1'), ca.issue('hup-2'), ca.issue('hup-client')];
    const files = {
      cert: write('cert', first.cert, 0o644),
      key: write('key', first.key),
      ca: write('ca', ca.cert, 0o644),
    };
    const { log, port, wires } = await start(
      `http: { port: 0, tls: { cert: { file: ${files.cert} }, key: { file: ${files.key} }, client_ca: { file: ${files.ca} } } }`,
    );
    expect(log.of('listening')[0]).toMatchObject({ tls: true, authentication: ['client_ca'] });
    const subject = async (): Promise<unknown> => {
      const wire = await openTlsWire(port, { ca: ca.cert, cert: client.cert, key: client.key });
      wires.push(wire);
      wire.send(post(canary('198.51.100.7')));
      expect((await wire.answer()).status).toBe(202);
      return (wire.socket as TLSSocket).getPeerCertificate().subject.CN;
    };
    expect(await subject()).toBe('hup-1');
    writeFileSync(files.cert, second.cert);
    // Between the two writes the key is another's: nothing changes.
    process.emit('SIGHUP', 'SIGHUP');
    expect(await subject()).toBe('hup-1');
    writeFileSync(files.key, second.key);
    process.emit('SIGHUP', 'SIGHUP');
    expect(await subject()).toBe('hup-2');
    expect(log.of('the former secrets and certificates of HTTP go on')).toHaveLength(1);
  });

  test('without anything to read changes nothing', async () => {
    const { log, port, wires } = await start('http: { port: 0 }');
    process.emit('SIGHUP', 'SIGHUP');
    const wire = await openWire(port);
    wires.push(wire);
    wire.send(post(canary('198.51.100.7')));
    expect((await wire.answer()).status).toBe(202);
    expect(log.of('secrets and certificates of HTTP read again')).toEqual([]);
  });
});

test('ready is who finds all block maps to write to, and as long as they are there', () => {
  let nowMs = 0;
  const why = pinsReadiness(folder, () => nowMs);
  expect(why()).toBe('there is no map blocked_v4: nothing is attached');
  mkdirSync(join(folder, 'current'));
  for (const name of ['blocked_v4', 'blocked_v6', 'blocked_cidr_v4']) write(`current/${name}`, '');
  nowMs += 1_000;
  expect(why()).toBe('there is no map blocked_cidr_v6: nothing is attached');
  write('current/blocked_cidr_v6', '');
  // Asked as often as one likes, it looks twice a second.
  expect(why()).not.toBe(null);
  nowMs += 1_000;
  expect(why()).toBe(null);
  rmSync(join(folder, 'current'), { recursive: true });
  nowMs += 1_000;
  expect(why()).not.toBe(null);
});
