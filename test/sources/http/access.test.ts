import { afterEach, describe, expect, test } from 'vitest';
import {
  type CredentialName,
  type Credentials,
  credentialProblem,
  isLoopback,
  noCredentials,
} from '../../../src/sources/http/access.ts';
import { serveHttp } from '../../../src/sources/http.ts';
import { Intake } from '../../../src/sources/intake.ts';
import { post } from '../wire.ts';
import { alertOf, type Served, serve } from './serve.ts';

const opened: Served[] = [];
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

async function open(credentials: Partial<Credentials>): Promise<Served> {
  const served = await serve({ credentials: { ...noCredentials, ...credentials } });
  opened.push(served);
  return served;
}

const token = 'tokentokentokentoken-1';
const basic = 'falco:passwordpassword:1';
const path = 'pathpathpathpathpath-1';
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const authorization = (value: string): string => `Authorization: ${value}\r\n`;
const alert = alertOf('r');

describe('with a token, Basic and a secret path configured any one of them admits', () => {
  test.each<[string, string, string, number]>([
    ['the token', '/', authorization(`Bearer ${token}`), 202],
    ['the token, the scheme in capitals', '/falco', authorization(`BEARER ${token}`), 202],
    ['user and password', '/', authorization(`Basic ${base64(basic)}`), 202],
    ['the path', `/${path}`, '', 202],
    ['the path with a query', `/${path}?x=1`, '', 202],
    ['the path and a wrong token', `/${path}`, authorization('Bearer x'), 202],
    ['the token on the secret path', `/${path}`, authorization(`Bearer ${token}`), 202],
    ['the token, elsewhere', '/elsewhere', authorization(`Bearer ${token}`), 404],
    ['nothing', '/', '', 401],
    ['nothing, elsewhere', '/falco', '', 401],
    ['an empty header', '/', authorization(''), 401],
    ['the scheme alone', '/', authorization('Bearer'), 401],
    ['the token without a scheme', '/', authorization(token), 401],
    ['the token as Basic', '/', authorization(`Basic ${token}`), 401],
    ['the password as token', '/', authorization(`Bearer ${basic}`), 401],
    ['the path as token', '/', authorization(`Bearer ${path}`), 401],
    ['the token as path', `/${token}`, '', 401],
    ['a token without its last character', '/', authorization(`Bearer ${token.slice(0, -1)}`), 401],
    ['a token with a character more', '/', authorization(`Bearer ${token}1`), 401],
    ['a token with another last character', '/', authorization(`Bearer ${token.slice(0, -1)}2`), 401],
    ['a token in capitals', '/', authorization(`Bearer ${token.toUpperCase()}`), 401],
    ['a password off by one', '/', authorization(`Basic ${base64(`${basic.slice(0, -1)}2`)}`), 401],
    ['another user', '/', authorization(`Basic ${base64(basic.replace('falco', 'talon'))}`), 401],
    ['no Base64', '/', authorization('Basic ===='), 401],
    ['a path without its last character', `/${path.slice(0, -1)}`, '', 401],
    ['a path with a character more', `/${path}1`, '', 401],
    ['a path with another last character', `/${path.slice(0, -1)}2`, '', 401],
    ['a path with a slash at its end', `/${path}/`, '', 401],
    ['a path in another case', `/${path.toUpperCase()}`, '', 401],
    ['a path, percent-encoded', `/%70${path.slice(1)}`, '', 401],
    ['a long token', '/', authorization(`Bearer ${'x'.repeat(10_000)}`), 401],
    ['a long password', '/', authorization(`Basic ${'x'.repeat(10_000)}`), 401],
    ['a long path', `/${'x'.repeat(10_000)}`, '', 401],
  ])('%s', async (_name, url, headers, status) => {
    const { source, wire, intake, arrived, said } = await open({ token, basic, path });
    const sender = await wire();
    sender.send(post(alert, { path: url, headers }));
    const answer = await sender.answer();
    expect(answer.status).toBe(status);
    await intake.idle();
    expect(arrived).toHaveLength(status === 202 ? 1 : 0);
    expect(source.counts().unauthenticated).toBe(status === 401 ? 1 : 0);
    expect(JSON.stringify(said)).not.toMatch(/password|pathpath|tokentoken/i);
    if (status !== 401) return;
    expect(answer.head).toMatch(/^www-authenticate: Bearer realm="falcodrop", Basic realm=/im);
    expect(answer.body).not.toMatch(/password|pathpath|tokentoken/i);
    expect(intake.counts()).toEqual({});
    // and the connection goes on
    sender.send(post(alert, { headers: authorization(`Bearer ${token}`) }));
    expect((await sender.answer()).status).toBe(202);
  });
});

test.each(['GET', 'PUT', 'HEAD', 'OPTIONS'])('who is not admitted learns nothing by %s', async (method) => {
  const { wire } = await open({ token });
  for (const url of ['/', '/falco', '/elsewhere']) {
    const sender = await wire();
    sender.send(`${method} ${url} HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\nConnection: close\r\n\r\n`);
    await sender.closed;
    const answer = sender.answer();
    if (method === 'HEAD') await expect(answer).rejects.toThrow(/HTTP\/1\.1 401/);
    else expect((await answer).status).toBe(401);
  }
});

test('health and readiness are for anybody', async () => {
  const { wire } = await open({ token, path });
  const sender = await wire();
  for (const url of ['/healthz', '/readyz']) {
    sender.send(`GET ${url} HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect((await sender.answer()).status).toBe(200);
  }
});

test('with a path alone no header helps: 403', async () => {
  const { wire } = await open({ path: `/${path}` });
  const sender = await wire();
  sender.send(post(alert));
  const answer = await sender.answer();
  expect(answer.status).toBe(403);
  expect(answer.head).not.toMatch(/www-authenticate/i);
  sender.send(post(alert, { path: `/${path}` }));
  expect((await sender.answer()).status).toBe(202);
});

test('a body that nobody is allowed to send is not kept, and one without end is cut', async () => {
  const { wire, intake } = await open({ token });
  const sender = await wire();
  sender.send('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  expect((await sender.answer()).status).toBe(401);
  const chunk = `10000\r\n${' '.repeat(0x1_0000)}\r\n`;
  for (let sent = 0; !sender.socket.destroyed && sent < 64 << 20; sent += chunk.length) {
    sender.send(chunk);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await sender.closed;
  expect(intake.counts()).toEqual({});
});

test('a thousand wrong tokens are a line of the log, and the last word counts them', async () => {
  const { source, wire, said } = await open({ token });
  const sender = await wire();
  for (let n = 0; n < 10; n++) {
    sender.send(Buffer.concat(Array.from({ length: 100 }, () => post(alert, { headers: authorization('Bearer x') }))));
    for (let m = 0; m < 100; m++) expect((await sender.answer()).status).toBe(401);
  }
  const line = (times: number) => ({
    message: 'a sender was not authenticated',
    details: { source: 'http', from: '127.0.0.1', problem: 'its secret is wrong', times },
  });
  expect(said).toEqual([line(1)]);
  expect(source.counts().unauthenticated).toBe(1_000);
  await source.close(0);
  expect(said).toEqual([line(1), line(999)]);
});

test('other secrets from one request to the next, on a connection that is open', async () => {
  const { source, wire } = await open({ token });
  const sender = await wire();
  const send = async (value: string): Promise<number> => {
    sender.send(post(alert, { headers: authorization(`Bearer ${value}`) }));
    return (await sender.answer()).status;
  };
  expect(await send(token)).toBe(202);
  const other = 'another-token-of-many-characters';
  // In the middle of a request: what was taken in is judged by what holds when its headers are there.
  source.renew({ credentials: { ...noCredentials, token: other }, tls: null });
  await sender.closed;
  const next = await wire();
  next.send(post(alert, { headers: authorization(`Bearer ${token}`) }));
  expect((await next.answer()).status).toBe(401);
  next.send(post(alert, { headers: authorization(`Bearer ${other}`) }));
  expect((await next.answer()).status).toBe(202);
});

describe('where it listens', () => {
  const intake = new Intake(() => undefined);

  test.each(['0.0.0.0', '::', '192.0.2.1', '::ffff:192.0.2.1', '10.0.0.1', '128.0.0.1'])(
    'a wide address without authentication is refused: %s',
    async (address) => {
      await expect(serveHttp({ address, port: 0, intake })).rejects.toMatchObject({
        code: 'authentication_missing',
        message: expect.stringContaining(address),
        hint: expect.stringMatching(
          /http\.token.*http\.basic.*http\.path.*http\.tls\.client_ca.*127\.0\.0\.1.*http\.socket/,
        ),
      });
    },
  );

  test.each<[CredentialName, string]>([
    ['token', token],
    ['basic', basic],
    ['path', path],
  ])('with %s it is taken, and can not be taken away again', async (name, secret) => {
    const served = await serve({ address: '0.0.0.0', credentials: { ...noCredentials, [name]: secret } });
    opened.push(served);
    expect(() => served.source.renew({ credentials: noCredentials, tls: null })).toThrow(/would take alerts/);
    const sender = await served.wire();
    sender.send(post(alert));
    expect((await sender.answer()).status).toBe(name === 'path' ? 403 : 401);
  });

  test.each([
    ['127.0.0.1', true],
    ['127.255.255.255', true],
    ['::1', true],
    ['0:0:0:0:0:0:0:1', true],
    ['::ffff:127.0.0.1', true],
    ['128.0.0.1', false],
    ['::', false],
    ['::ffff:10.0.0.1', false],
    ['', false],
    ['localhost', false],
  ])('isLoopback(%j) is %j', (address, is) => {
    expect(isLoopback(address)).toBe(is);
  });
});

test.each<[CredentialName, string, RegExp | null]>([
  ['token', token, null],
  ['token', 'short', /less than 16/],
  ['token', 'with spaces in between it', /letters, digits/],
  ['token', 'x'.repeat(1_025), /more than 1024/],
  ['path', path, null],
  ['path', `/${path}`, null],
  ['path', 'falco', /less than 16/],
  ['path', '/123456789012345', /less than 16/],
  ['path', 'pathpathpathpath?x=1', /letters, digits/],
  ['path', 'p\u00e4thpathpathpathpath', /letters, digits/],
  ['basic', basic, null],
  ['basic', 'passwordpassword', /not NAME:PASSWORD/],
  ['basic', ':passwordpassword', /not NAME:PASSWORD/],
  ['basic', 'falcofalcofalcofalco:short', /its password has less than 16/],
])('credentialProblem(%s, %j)', (name, secret, problem) => {
  const found = credentialProblem(name, secret);
  if (problem === null) expect(found).toBe(null);
  else expect(found).toMatch(problem);
  if (secret.length > 6) expect(String(found)).not.toContain(secret);
});
