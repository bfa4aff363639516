import { execFile } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { noCredentials } from '../../../src/sources/http/access.ts';
import { type HttpSource, serveHttp } from '../../../src/sources/http.ts';
import { type Arrival, Intake } from '../../../src/sources/intake.ts';
import { openUnixWire, post } from '../wire.ts';
import { alertOf } from './serve.ts';

let folder = '';
let path = '';
const opened: { close(): unknown }[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-http-'));
  path = join(folder, 'http.sock');
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
  rmSync(folder, { recursive: true });
});

async function open(gid: number | null = null) {
  const arrived: Arrival[] = [];
  const intake = new Intake((arrival) => arrived.push(arrival));
  // A secret is for those who come over TCP: the file's mode says who may come here.
  const credentials = { ...noCredentials, token: 'tokentokentokentoken' };
  const source: HttpSource = await serveHttp({ socket: path, gid, intake, credentials });
  opened.push({ close: () => source.close(0) });
  return { source, intake, arrived };
}

const listenAt = async (at: string): Promise<Server> => {
  const server = createServer((socket) => socket.end());
  await new Promise<void>((resolve) => server.listen(at, resolve));
  return server;
};

/** As a killed daemon leaves it. */
async function leaveStale(): Promise<void> {
  const bound = join(folder, 'bound');
  const server = await listenAt(bound);
  renameSync(bound, path);
  await new Promise((resolve) => server.close(resolve));
  expect(lstatSync(path).isSocket()).toBe(true);
}

test('alerts over a unix socket are local, and counted under its own name', async () => {
  const { source, intake, arrived } = await open();
  expect({ name: source.name, address: source.address }).toEqual({ name: 'http:unix', address: path });
  const wire = await openUnixWire(path);
  opened.push(wire);
  wire.send(Buffer.concat([post(alertOf('a')), post(`[${alertOf('b')}]`)]));
  for (let n = 0; n < 2; n++) expect((await wire.answer()).status).toBe(202);
  await intake.idle();
  expect(arrived.map(({ source: { name }, alert: { origin } }) => [name, origin])).toEqual([
    ['http:unix', 'local'],
    ['http:unix', 'local'],
  ]);
  expect(intake.counts()).toEqual({ 'http:unix': expect.objectContaining({ received: 2, decided: 2 }) });
});

test('curl speaks to it', async () => {
  await open();
  const said = await new Promise((resolve) => {
    const args = ['-s', '--max-time', '10', '--unix-socket', path, '-w', '%{http_code}', '--data-binary', alertOf('a')];
    execFile('curl', [...args, 'http://localhost/'], (_error, stdout) => resolve(stdout));
  });
  expect(said).toBe('202');
});

test('its mode is 0660, its group the one that is named, and it goes with the daemon', async () => {
  const { source } = await open(4_711);
  const { mode, gid } = lstatSync(path);
  expect({ mode: (mode & 0o7777).toString(8), gid }).toEqual({ mode: '660', gid: 4_711 });
  await source.close(0);
  expect(readdirSync(folder)).toEqual([]);
});

test('what a killed daemon left is replaced', async () => {
  await leaveStale();
  await open();
  const wire = await openUnixWire(path);
  opened.push(wire);
  wire.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  expect((await wire.answer()).status).toBe(200);
  expect(readdirSync(folder)).toEqual(['http.sock']);
});

test('what somebody else put in its place stays when it goes', async () => {
  const { source } = await open();
  rmSync(path);
  writeFileSync(path, 'x');
  await source.close(0);
  expect(readdirSync(folder)).toEqual(['http.sock']);
});

describe('refused, with a reason, and nothing is left behind', () => {
  test.each<[string, () => Promise<unknown> | unknown, RegExp]>([
    [
      'a daemon that answers there',
      () => listenAt(path).then((server) => opened.push(server)),
      /another daemon answers/,
    ],
    [
      'a socket of somebody else',
      async () => {
        await leaveStale();
        chownSync(path, 4_711, 0);
      },
      /the socket of somebody else \(uid 4711, not 0\)/,
    ],
    ['a file', () => writeFileSync(path, ''), /is there, and no socket/],
    ['a directory', () => mkdirSync(path), /is there, and no socket/],
    [
      'no directory',
      () => {
        path = join(folder, 'none/http.sock');
      },
      /no such directory/,
    ],
    [
      'a path through a file',
      () => {
        writeFileSync(join(folder, 'file'), '');
        path = join(folder, 'file/http.sock');
      },
      /ENOTDIR|leads through what is no directory/,
    ],
    [
      'a path too long',
      () => {
        path = join(folder, 'x'.repeat(100));
      },
      /too long for the name of a socket/,
    ],
  ])('%s', async (_name, prepare, says) => {
    if (process.geteuid?.() !== 0) chmodSync(folder, 0o700);
    await prepare();
    const before = readdirSync(folder);
    await expect(open()).rejects.toMatchObject({ code: 'listen_failed', message: expect.stringMatching(says) });
    expect(readdirSync(folder)).toEqual(before);
  });
});
