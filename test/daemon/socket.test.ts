import { mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { askDaemon } from '../../src/daemon/ask.ts';
import { type Client, type DaemonSocket, serveSocket, socketPath } from '../../src/daemon/socket.ts';
import { FalcodropError } from '../../src/errors.ts';
import { isAnswered } from '../../src/sources/unix-socket.ts';

const limits = { clients: 3, request: 256, requestWithin: 60_000, buffer: 64 * 1024 };

let directory = '';
let path = '';
let served: DaemonSocket | null = null;
let clients: Client[] = [];
let wake: () => void = () => undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-socket-`));
  path = socketPath(directory);
  clients = [];
});
afterEach(async () => {
  await served?.close();
  served = null;
  rmSync(directory, { recursive: true, force: true });
});

const verbs = {
  /** Stays; the test sends. */
  stream: (_: object, client: Client) => {
    clients.push(client);
    client.send({ ok: true });
    wake();
  },
  once: (request: object, client: Client) => {
    client.send({ request });
    client.end();
  },
  refuse: () => {
    throw new FalcodropError('usage', 'not like this', 'like that');
  },
  break: () => {
    throw new Error('a secret of the daemon');
  },
};

async function serve(more: Partial<typeof limits> = {}): Promise<void> {
  served = await serveSocket(path, verbs, { ...limits, ...more });
}

/** All that comes until the daemon closes. */
function talk(text: string | Buffer): Promise<Record<string, unknown>[]> {
  return new Promise((resolve) => {
    let said = '';
    const socket = connect(path, () => socket.write(text));
    socket.setEncoding('utf8').on('data', (part: string) => {
      said += part;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(objectsOf(said)));
  });
}

const objectsOf = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

/** Connected and answered. */
async function streamed(): Promise<Socket> {
  const before = clients.length;
  const socket = connect(path, () => socket.write('{"verb":"stream"}\n'));
  socket.on('error', () => undefined);
  while (clients.length === before) {
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  }
  return socket;
}

const closed = (socket: Socket): Promise<void> =>
  socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once('close', () => resolve()));

describe('the socket', () => {
  test('is there for its owner and group, under its name alone, and goes with the daemon', async () => {
    await serve();
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(readdirSync(directory)).toEqual(['run.sock']);
    await served?.close();
    expect(readdirSync(directory)).toEqual([]);
  });

  test('takes the place of one that nobody listens at, not of one that answers, nor of anything else', async () => {
    const abandoned = await serveSocket(path, verbs, limits);
    await expect(serveSocket(path, verbs, limits)).rejects.toMatchObject({ code: 'listen_failed' });
    await abandoned.close();

    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
    const { spawnSync } = await import('node:child_process');
    spawnSync(process.execPath, ['-e', script, path]);
    expect(statSync(path).isSocket()).toBe(true);
    expect(await isAnswered(path)).toBe(false);
    await serve();
    expect(await isAnswered(path)).toBe(true);
    await served?.close();

    writeFileSync(path, 'precious');
    await expect(serveSocket(path, verbs, limits)).rejects.toMatchObject({ code: 'listen_failed' });
    rmSync(path);
    symlinkSync('/etc/passwd', path);
    await expect(serveSocket(path, verbs, limits)).rejects.toMatchObject({ code: 'listen_failed' });
    served = null;
  });

  test('a name that is too long is refused, not cut off', async () => {
    const long = join(directory, 'x'.repeat(100), 'run.sock');
    await expect(serveSocket(long, verbs, limits)).rejects.toMatchObject({ code: 'listen_failed' });
  });

  test('of another daemon that took the place is left alone at the end', async () => {
    await serve();
    rmSync(path);
    const other = createServer().listen(path);
    await new Promise((resolve) => other.once('listening', resolve));
    await served?.close();
    served = null;
    expect(readdirSync(directory)).toEqual(['run.sock']);
    await new Promise((resolve) => other.close(resolve));
  });
});

describe('a request', () => {
  test.each<[string, string | Buffer, unknown[]]>([
    ['is answered', '{"verb":"once","x":1}\n', [{ request: { verb: 'once', x: 1 } }]],
    [
      'what the verb refuses',
      '{"verb":"refuse"}\n',
      [{ error: { code: 'usage', message: 'not like this', hint: 'like that' } }],
    ],
    [
      'what the verb breaks at tells no secret',
      '{"verb":"break"}\n',
      [{ error: expect.objectContaining({ code: 'failed' }) }],
    ],
    ['no such verb', '{"verb":"toString"}\n', [{ error: expect.objectContaining({ code: 'usage' }) }]],
    ['a verb that is no text', '{"verb":["once"]}\n', [{ error: expect.objectContaining({ code: 'usage' }) }]],
    ['no object', '[]\n', [{ error: expect.objectContaining({ code: 'usage' }) }]],
    ['no JSON', 'GET / HTTP/1.1\r\n\r\n', [{ error: expect.objectContaining({ code: 'usage' }) }]],
    ['no UTF-8', Buffer.from([0xff, 0x00, 0x0a]), [{ error: expect.objectContaining({ code: 'usage' }) }]],
    ['too long', `{"verb":"${'x'.repeat(300)}"}\n`, [{ error: expect.objectContaining({ code: 'usage' }) }]],
    ['endless', 'x'.repeat(300), [{ error: expect.objectContaining({ code: 'usage' }) }]],
  ])('%s', async (_, text, answer) => {
    await serve();
    const said = await talk(text);
    expect(said).toEqual(answer);
    expect(JSON.stringify(said)).not.toContain('secret');
  });

  test('that does not come in time is not waited for', async () => {
    await serve({ requestWithin: 20 });
    expect(await talk('')).toEqual([{ error: expect.objectContaining({ code: 'usage' }) }]);
  });

  test('of one client too many is refused, and there is room again when one goes', async () => {
    await serve();
    const sockets = [await streamed(), await streamed(), await streamed()];
    expect(await talk('')).toEqual([
      { error: expect.objectContaining({ message: expect.stringContaining('3 clients') }) },
    ]);
    const gone = new Promise<void>((resolve) => clients[0]?.onClose(resolve));
    sockets[0]?.destroy();
    await gone;
    expect(await talk('{"verb":"once"}\n')).toEqual([{ request: { verb: 'once' } }]);
    for (const socket of sockets) socket.destroy();
  });

  test('followed by more and more input ends the client', async () => {
    await serve();
    const socket = await streamed();
    socket.resume();
    socket.write('y'.repeat(1000));
    await closed(socket);
    expect(clients).toHaveLength(1);
  });
});

describe('a slow client', () => {
  test('loses lines, is told how many, and holds up nobody', async () => {
    await serve();
    const slow = await streamed();
    slow.pause();
    const quick = await streamed();
    let quickSaid = '';
    quick.setEncoding('utf8').on('data', (text: string) => {
      quickSaid += text;
    });
    const [toSlow, toQuick] = clients;
    const filler = 'z'.repeat(1000);
    let sent = 0;
    let lost = 0;
    while (lost < 50) {
      if (toSlow?.send({ n: sent, filler }) === true) sent++;
      else lost++;
      if (sent > 100_000) throw new Error('it never got slow');
    }
    expect(toQuick?.send({ n: 0 })).toBe(true);

    let slowSaid = '';
    slow.setEncoding('utf8').on('data', (text: string) => {
      slowSaid += text;
    });
    slow.resume();
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (!slowSaid.includes('"lost"')) return;
        slow.off('data', look);
        resolve();
      };
      slow.on('data', look);
      look();
    });
    expect(toSlow?.send({ last: true })).toBe(true);
    await served?.close();
    await Promise.all([closed(slow), closed(quick)]);
    const said = objectsOf(slowSaid);
    expect(said.filter((line) => 'n' in line)).toHaveLength(sent);
    expect(said.filter((line) => 'lost' in line)).toEqual([{ lost: 50 }]);
    expect(said.at(-1)).toEqual({ end: 'stopping' });
    expect(objectsOf(quickSaid)).toEqual([{ ok: true }, { n: 0 }, { end: 'stopping' }]);
  });

  test('that never reads does not keep the daemon', async () => {
    await serve();
    const slow = await streamed();
    slow.pause();
    const filler = 'z'.repeat(1000);
    for (let sent = 0; clients[0]?.send({ filler }) === true; sent++) if (sent > 100_000) throw new Error('never full');
    await served?.close();
    served = null;
    slow.destroy();
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe('asking', () => {
  const never = new AbortController().signal;
  const lines: object[] = [];
  const keep = (line: object): void => void lines.push(line);
  beforeEach(() => {
    lines.length = 0;
  });

  test('nobody there, somebody, and one who is told to stop', async () => {
    expect(await askDaemon(path, { verb: 'once' }, keep, never)).toBe('absent');
    await serve();
    expect(await askDaemon(path, { verb: 'once' }, keep, never)).toBe('ended');
    expect(lines).toEqual([{ request: { verb: 'once' } }]);
    const stop = new AbortController();
    const asked = askDaemon(path, { verb: 'stream' }, () => stop.abort(), stop.signal);
    expect(await asked).toBe('ended');
  });

  test('what its listener throws is thrown', async () => {
    await serve();
    const asked = askDaemon(
      path,
      { verb: 'once' },
      () => {
        throw new FalcodropError('failed', 'enough');
      },
      never,
    );
    await expect(asked).rejects.toMatchObject({ message: 'enough' });
  });

  test.each<[string, string | Buffer, object[]]>([
    ['rubbish', '\x1b]0;x\x07\nnull\n3\n"x"\n[1]\n{"a":1}\n{', [[1], { a: 1 }]],
    ['a line without an end', Buffer.alloc(1 << 20, 'x'), []],
    ['no UTF-8', Buffer.from([0x7b, 0xff, 0x7d, 0x0a]), []],
  ])('a hostile daemon: %s', async (_, text, expected) => {
    const hostile = createServer((socket) => {
      socket.on('error', () => undefined).resume();
      socket.end(text);
    });
    await new Promise<void>((resolve) => hostile.listen(path, resolve));
    expect(await askDaemon(path, {}, keep, never)).toBe('ended');
    expect(lines).toEqual(expected);
    await new Promise((resolve) => hostile.close(resolve));
  });
});
