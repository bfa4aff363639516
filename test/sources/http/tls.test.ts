import { execFile, execFileSync } from 'node:child_process';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { noCredentials } from '../../../src/sources/http/access.ts';
import { requireTls, type TlsMaterial } from '../../../src/sources/http/tls.ts';
import { until } from '../../kernel/lab.ts';
import { openTlsWire, openWire, post, type Wire } from '../wire.ts';
import { type Authority, type Certificate, expired, openPki, type Pki } from './pki.ts';
import { alertOf, type Served, serve } from './serve.ts';

let pki: Pki;
let ca: Authority;
let otherCa: Authority;
let server: Certificate;
let client: Certificate;
let otherClient: Certificate;
let oldClient: Certificate;

beforeAll(() => {
  pki = openPki();
  ca = pki.authority('ca');
  otherCa = pki.authority('other-ca');
  server = ca.issue('server');
  client = ca.issue('client');
  otherClient = otherCa.issue('other-client');
  oldClient = ca.issue('old-client', expired);
});
afterAll(() => pki.remove());

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});

const token = 'tokentokentokentoken-1';
const bearer = { headers: `Authorization: Bearer ${token}\r\n` };
const alert = alertOf('r');
const mutual = (): TlsMaterial => ({ cert: server.cert, key: server.key, clientCa: ca.cert });

async function open(tls: TlsMaterial, options: Parameters<typeof serve>[0] = {}): Promise<Served> {
  const served = await serve({ tls, ...options });
  opened.push(served);
  return served;
}

async function wire({ source }: Served, options: ConnectionOptions = {}): Promise<Wire> {
  const one = await openTlsWire(source.port, { ca: ca.cert, ...options });
  opened.push(one);
  return one;
}

const shown = ({ cert, key }: Certificate): ConnectionOptions => ({ cert, key });

test('TLS with a token, without client certificates', async () => {
  const served = await open({ ...mutual(), clientCa: null }, { credentials: { ...noCredentials, token } });
  const sender = await wire(served);
  sender.send(post(alert, bearer));
  expect((await sender.answer()).status).toBe(202);
  sender.send(post(alert));
  expect((await sender.answer()).status).toBe(401);
});

describe('client certificates', () => {
  test('one of the CA is let in, also at a wide address without any other secret', async () => {
    const served = await open(mutual(), { address: '0.0.0.0' });
    const sender = await wire(served, shown(client));
    for (let n = 0; n < 3; n++) {
      sender.send(post(alert));
      expect((await sender.answer()).status).toBe(202);
    }
    await served.intake.idle();
    expect(served.arrived.map(({ source: { name }, alert: { origin } }) => [name, origin])).toEqual(
      Array.from({ length: 3 }, () => ['http', 'local']),
    );
    expect(served.source.counts().handshakes).toBe(0);
  });

  test('a token may be asked for beside', async () => {
    const served = await open(mutual(), { credentials: { ...noCredentials, token } });
    const sender = await wire(served, shown(client));
    sender.send(post(alert));
    expect((await sender.answer()).status).toBe(401);
    sender.send(post(alert, bearer));
    expect((await sender.answer()).status).toBe(202);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('all others are not, with %s, and why is said', async (version) => {
    const only = { minVersion: version, maxVersion: version };
    const cases: [ConnectionOptions, string][] = [
      [{}, 'it showed no certificate'],
      [shown(oldClient), 'its certificate has expired'],
      [shown(otherClient), 'its certificate is of another CA'],
    ];
    for (const [options, problem] of cases) {
      const served = await open(mutual());
      // The handshake may be over for the client before the server has seen its certificate.
      const sender = await wire(served, { ...only, ...options }).catch(() => null);
      sender?.send(post(alert));
      await sender?.closed;
      await until('the log says so', () => served.said.length > 0);
      expect(served.said.map(({ details }) => details.problem)).toEqual([problem]);
      expect(served.source.counts().handshakes).toBe(1);
      expect(served.intake.counts()).toEqual({});
    }
  });

  test('no TLS at all', async () => {
    const served = await open(mutual());
    const sender = await openWire(served.source.port);
    sender.send(post(alert));
    await sender.closed;
    expect(served.intake.counts()).toEqual({});
    expect(served.source.counts().handshakes).toBe(1);
    expect(served.said.map(({ details }) => details.problem)).toEqual(['it speaks plain HTTP']);
  });

  test('who does not finish the handshake is cut, and takes no slot from who speaks', async () => {
    const served = await open(mutual(), { limits: { headersMs: 200, maxConnections: 3 } });
    const falco = await wire(served, shown(client));
    falco.send(post(alert));
    expect((await falco.answer()).status).toBe(202);
    const silent = await Promise.all([0, 1, 2, 3].map(() => openWire(served.source.port)));
    falco.send(post(alert));
    expect((await falco.answer()).status).toBe(202);
    await Promise.all(silent.map(({ closed }) => closed));
  });

  test('at the end those in the middle of a handshake are not waited for', async () => {
    const served = await open(mutual());
    const silent = await openWire(served.source.port);
    await served.source.close(20);
    await silent.closed;
  });
});

describe('other certificates, without a restart', () => {
  test('new connections meet the new ones, and those that are open end after their next answer', async () => {
    const served = await open(mutual());
    const idle = await wire(served, shown(client));
    idle.send(post(alert));
    expect((await idle.answer()).status).toBe(202);
    const busy = await wire(served, shown(client));
    busy.send(post(alert).subarray(0, 40));
    busy.socket.once('close', () => undefined);
    const other = otherCa.issue('server-2');
    served.source.renew({
      credentials: noCredentials,
      tls: { cert: other.cert, key: other.key, clientCa: otherCa.cert },
    });
    await idle.closed;
    busy.send(post(alert).subarray(40));
    const last = await busy.answer();
    expect(last.status).toBe(202);
    expect(last.head).toMatch(/connection: close/i);
    await busy.closed;
    const next = await wire(served, { ca: otherCa.cert, ...shown(otherClient) });
    next.send(post(alert));
    expect((await next.answer()).status).toBe(202);
    const former = await wire(served, { ca: otherCa.cert, ...shown(client) }).catch(() => null);
    former?.send(post(alert));
    await former?.closed;
    expect(served.intake.counts().http?.received).toBe(3);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'a session begun under the former CA is not taken up again: %s',
    async (version) => {
      const served = await open(mutual());
      const options = { minVersion: version, maxVersion: version, ...shown(client) };
      const first = await wire(served, options);
      const tickets: Buffer[] = [];
      (first.socket as TLSSocket).on('session', (ticket: Buffer) => tickets.push(ticket));
      first.send(post(alert));
      expect((await first.answer()).status).toBe(202);
      const [session = (first.socket as TLSSocket).getSession()] = tickets;
      if (session === undefined) throw new Error('no session');
      const again = await wire(served, { ...options, session });
      expect((again.socket as TLSSocket).isSessionReused()).toBe(true);
      served.source.renew({ credentials: noCredentials, tls: { ...mutual(), clientCa: otherCa.cert } });
      const late = await wire(served, { ...options, session }).catch(() => null);
      late?.send(post(alert));
      await late?.closed;
      await until('it is refused', () => served.source.counts().handshakes === 1);
      expect(served.intake.counts().http?.received).toBe(1);
    },
  );

  test('what does not fit leaves the former ones in force', async () => {
    const served = await open(mutual());
    expect(() =>
      served.source.renew({ credentials: noCredentials, tls: { ...mutual(), key: client.key } }),
    ).toThrowError(expect.objectContaining({ code: 'tls_invalid' }));
    const sender = await wire(served, shown(client));
    sender.send(post(alert));
    expect((await sender.answer()).status).toBe(202);
  });
});

test.each<[string, () => Partial<TlsMaterial>, RegExp]>([
  ['no certificate', () => ({ cert: 'x' }), /^http\.tls\.cert: it is no certificate/],
  ['a key for a certificate', () => ({ cert: server.key }), /^http\.tls\.cert: it is no certificate/],
  ['no key', () => ({ key: 'x' }), /^http\.tls\.key: it is no private key/],
  ['the key of another', () => ({ key: client.key }), /^http\.tls\.key: it is not the key of http\.tls\.cert/],
  ['an encrypted key', () => ({ key: encrypted() }), /^http\.tls\.key: it is no private key .* without a passphrase/],
  ['no CA', () => ({ clientCa: 'x' }), /^http\.tls\.client_ca: it is no certificate/],
])('%s is refused, and nothing of a key is told', (_name, change, says) => {
  try {
    requireTls({ ...mutual(), ...change() });
  } catch (error) {
    expect(error).toMatchObject({ code: 'tls_invalid', message: expect.stringMatching(says) });
    const [, line = ''] = server.key.split('\n');
    expect(`${String(error)}${(error as Error).stack}`).not.toContain(line);
    return;
  }
  throw new Error('taken');
});

function encrypted(): string {
  const args = ['pkey', '-in', server.keyFile, '-aes128', '-passout', 'pass:secret'];
  return execFileSync('openssl', args, { encoding: 'utf8' });
}

describe('curl', () => {
  const run = (served: Served, ...args: string[]): Promise<string> => {
    const common = ['-s', '--max-time', '10', '-o', '/dev/null', '-w', '%{http_code}', '--data-binary', alert];
    const url = `https://127.0.0.1:${served.source.port}/`;
    return new Promise((resolve) => {
      execFile('curl', [...common, '--cacert', ca.certFile, ...args, url], (_error, stdout) => resolve(stdout));
    });
  };

  test('with and without its certificate', async () => {
    const served = await open(mutual());
    expect(await run(served, '--cert', client.certFile, '--key', client.keyFile)).toBe('202');
    expect(await run(served)).toBe('000');
    expect(await run(served, '--cert', oldClient.certFile, '--key', oldClient.keyFile)).toBe('000');
    expect(await run(served, '--cert', otherClient.certFile, '--key', otherClient.keyFile)).toBe('000');
    expect(served.intake.counts().http?.received).toBe(1);
    expect(served.source.counts().handshakes).toBe(3);
  });

  test('with user and password in the URL, as Falco has them, over TLS', async () => {
    const served = await open(
      { ...mutual(), clientCa: null },
      { credentials: { ...noCredentials, basic: 'falco:pass word/pass:word' } },
    );
    const url = (user: string): string => `https://${user}@127.0.0.1:${served.source.port}/falco`;
    expect(await run(served, url('falco:pass%20word%2Fpass%3Aword'))).toMatch(/^202/);
    expect(await run(served, url('falco:pass%20word%2Fpass%3Awore'))).toMatch(/^401/);
  });
});
