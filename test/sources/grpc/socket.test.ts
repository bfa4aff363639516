import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { clientsOf, socketProblem } from '../../../src/sources/grpc/socket.ts';

let directory = '';
let path = '';
let server: Server;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fd-socket-'));
  path = join(directory, 'falco.sock');
  server = createServer((socket) => socket.on('error', () => undefined).resume());
  server.listen(path);
  await new Promise((resolve) => server.once('listening', resolve));
});
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

const uid = process.getuid?.() ?? 0;

describe('who owns a socket', () => {
  test('ours, also behind a link', async () => {
    symlinkSync(path, join(directory, 'link'));
    expect(await socketProblem(path, uid)).toBeNull();
    expect(await socketProblem(join(directory, 'link'), uid)).toBeNull();
  });

  test("root's, for whom it may be", async (context) => {
    if (process.getuid?.() !== 0) return context.skip('only root can give a socket away');
    expect(await socketProblem(path, 12_345)).toBeNull();
  });

  test.each<[string, () => string, string]>([
    ['nothing', () => join(directory, 'none'), 'not there yet'],
    ['a file', () => join(directory, 'file'), 'no socket'],
    ['a directory', () => join(directory, 'folder'), 'no socket'],
    ['below a file', () => join(directory, 'file', 'x'), 'no directory'],
    ['a link to nothing', () => join(directory, 'dangling'), 'not there yet'],
  ])('%s', async (_, at, problem) => {
    writeFileSync(join(directory, 'file'), '');
    mkdirSync(join(directory, 'folder'));
    symlinkSync(join(directory, 'none'), join(directory, 'dangling'));
    expect(await socketProblem(at(), uid)).toMatchObject({ problem: expect.stringContaining(problem) });
  });
});

describe('how many clients', () => {
  test('as the kernel says', async () => {
    expect(await clientsOf(path)).toBeNull();
    const clients = [connect(path), connect(path)];
    await Promise.all(clients.map((client) => new Promise((resolve) => client.once('connect', resolve))));
    expect(await clientsOf(path)).toBe(2);
    for (const client of clients) client.destroy();
  });

  test.each<[string, string, number | null]>([
    ['the one that listens is none', '00000000: 00000002 00000000 00010000 0001 01 7 /run/falco/falco.sock', null],
    ['one', '00000000: 00000003 00000000 00000000 0001 03 7 /run/falco/falco.sock', 1],
    ['by the old path', '00000000: 00000003 00000000 00000000 0001 03     7 /var/run/falco/falco.sock', 1],
    ['of another', '00000000: 00000003 00000000 00000000 0001 03 7 /run/falco/falco.sock.old', null],
    ['without a name', '00000000: 00000003 00000000 00000000 0001 03 7', null],
    ['rubbish', 'x', null],
  ])('%s', async (_, line, clients) => {
    const table = join(directory, 'table');
    writeFileSync(table, `Num       RefCount Protocol Flags    Type St Inode Path\n${line}\n`);
    expect(await clientsOf('/run/falco/falco.sock', table)).toBe(clients);
  });

  test('where there is no such table', async () => {
    expect(await clientsOf(path, join(directory, 'none'))).toBeNull();
  });
});
