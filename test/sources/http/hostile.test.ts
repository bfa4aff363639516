/** What a broken or hostile sender can do, over raw sockets: it is answered or cut, and others are served meanwhile. */
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { inUse } from '../in-use.ts';
import { openWire, post, requests, type Wire } from '../wire.ts';
import { alertOf, type Served, serve } from './serve.ts';

const opened: Served[] = [];
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

async function open(limits: Parameters<typeof serve>[0] = {}): Promise<Served & { readonly sender: Wire }> {
  const served = await serve(limits);
  opened.push(served);
  return { ...served, sender: await served.wire() };
}

const alert = alertOf('r');
const round = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** It still does what it is there for. */
async function works({ source, intake, arrived }: Served): Promise<void> {
  const before = arrived.length;
  const wire = await openWire(source.port);
  wire.send(post(alert));
  expect((await wire.answer()).status).toBe(202);
  wire.close();
  await intake.idle();
  expect(arrived.length).toBe(before + 1);
}

describe('on the wire', () => {
  test.each<[string, (sender: Wire) => Promise<void> | void, (number | 'closed')[]]>([
    ['a header without end', (sender) => endless(sender, 'POST / HTTP/1.1\r\nX: ', 'x'.repeat(4096)), [431, 'closed']],
    [
      'headers without end',
      (sender) => endless(sender, 'POST / HTTP/1.1\r\n', 'X: y\r\n'.repeat(500)),
      [431, 'closed'],
    ],
    ['a path without end', (sender) => endless(sender, 'POST /', 'x'.repeat(4096)), [431, 'closed']],
    ['a method without end', (sender) => endless(sender, '', 'X'.repeat(4096)), [400, 'closed']],
    ['garbage', (sender) => sender.send(Buffer.from([0, 1, 2, 3, 0xff, 0x0d, 0x0a])), [400, 'closed']],
    ['a TLS handshake', (sender) => sender.send(Buffer.from('16030100c8010000c40303', 'hex')), [400, 'closed']],
    [
      'garbage behind a request',
      (sender) => sender.send(Buffer.concat([post(alert), Buffer.from('\0\0garbage\r\n\r\n')])),
      [202, 400, 'closed'],
    ],
    [
      'more than its length',
      (sender) =>
        sender.send(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${alert.length}\r\n\r\n${alert}{"rule":"smuggled"}`),
      [202, 400, 'closed'],
    ],
    [
      'less than its length',
      (sender) => sender.send(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${alert.length + 1}\r\n\r\n${alert}`),
      [408, 'closed'],
    ],
    [
      'a length that is no number',
      (sender) => sender.send('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x10\r\n\r\n'),
      [400, 'closed'],
    ],
    [
      'a negative length',
      (sender) => sender.send('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'),
      [400, 'closed'],
    ],
    [
      'a length beyond all numbers',
      (sender) => sender.send(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${'9'.repeat(30)}\r\n\r\n`),
      [400, 'closed'],
    ],
    [
      'a chunk of no size',
      (sender) => sender.send('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'),
      [400, 'closed'],
    ],
    ['a header with a NUL', (sender) => sender.send('POST / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n'), [400, 'closed']],
    ['lines that end with LF alone', (sender) => sender.send('POST / HTTP/1.1\nHost: x\n\n'), [400, 'closed']],
    [
      'no host',
      (sender) => sender.send(`POST / HTTP/1.1\r\nContent-Length: ${alert.length}\r\n\r\n${alert}`),
      [400, 'closed'],
    ],
    ['HTTP/2 by prior knowledge', (sender) => sender.send('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), [400, 'closed']],
    ['CONNECT', (sender) => sender.send('CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: x\r\n\r\n'), ['closed']],
    [
      'HTTP/1.0',
      (sender) => sender.send(`POST / HTTP/1.0\r\nContent-Length: ${alert.length}\r\n\r\n${alert}`),
      [202, 'closed'],
    ],
    [
      'HTTP/1.0 kept open',
      (sender) =>
        sender.send(`POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: ${alert.length}\r\n\r\n${alert}`),
      [202],
    ],
  ])('%s', async (_name, act, answers) => {
    const served = await open({ limits: { headersMs: 300, requestMs: 400 } });
    const { sender } = served;
    await act(sender);
    for (const wanted of answers) {
      if (wanted === 'closed') await sender.closed;
      else expect((await sender.answer()).status).toBe(wanted);
    }
    expect(served.arrived.map(({ alert: { rule } }) => rule)).not.toContain('smuggled');
    await works(served);
  });

  test('HEAD is answered without a body', async () => {
    const served = await open();
    for (const [path, status] of [
      ['/healthz', 200],
      ['/readyz', 200],
      ['/', 405],
      ['/falco', 405],
      ['/x', 404],
    ] as const) {
      const wire = await served.wire();
      wire.send(`HEAD ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      await wire.closed;
      await expect(wire.answer()).rejects.toThrow(new RegExp(`"HTTP/1\\.1 ${status} [^"]*\\\\r\\\\n\\\\r\\\\n"`));
    }
  });

  test('a recorded request of falcosidekick and a gzipped list may be split at any byte', async () => {
    const { sender, intake, arrived } = await open();
    const [recorded = Buffer.alloc(0)] = requests('sidekick-2.34');
    const list = post(gzipSync(`[${alert},${alert}]`), { headers: 'Content-Encoding: gzip\r\n' });
    for (const request of [recorded, list]) {
      for (let at = 1; at < request.length; at++) {
        sender.send(request.subarray(0, at));
        await round();
        sender.send(request.subarray(at));
        expect((await sender.answer()).status).toBe(202);
      }
      for (const byte of request) {
        sender.send(Buffer.from([byte]));
        if (byte % 8 === 0) await round();
      }
      expect((await sender.answer()).status).toBe(202);
    }
    await intake.idle();
    expect(arrived).toHaveLength(recorded.length + 2 * list.length);
  });
});

async function endless(sender: Wire, begin: string, piece: string): Promise<void> {
  sender.send(begin);
  let isOver = false;
  void sender.closed.then(() => {
    isOver = true;
  });
  for (let sent = 0; !isOver && sent < 4 << 20; sent += piece.length) {
    sender.send(piece);
    await round();
  }
}

describe('in the body', () => {
  const of = (members: Record<string, unknown>): string => JSON.stringify({ rule: 'r', ...members });
  const keys = (count: number): string =>
    `{"rule":"r","output_fields":{${Array.from({ length: count }, (_, n) => `"${n.toString(36)}":1`).join(',')}}}`;
  const controls = Array.from({ length: 0xa0 }, (_, code) => String.fromCharCode(code)).join('');
  const types: unknown[] = [null, true, 0, -1, 1.5, 1e308, '', 'x', [], [[]], {}, { a: 1 }, [null], '\u0000'];
  const fields = [
    'time',
    'priority',
    'output',
    'output_fields',
    'source',
    'tags',
    'hostname',
    'uuid',
    'source_deprecated',
  ];
  const times = [
    '0000-01-01T00:00:00Z',
    '9999-12-31T23:59:59.999999999Z',
    '1969-12-31T23:59:59Z',
    '292277026596-12-04T15:30:08Z',
    '2026-13-45T99:99:99Z',
    '2026-01-01T00:00:00+99:99',
    `${'9'.repeat(400)}`,
  ];

  test.each<[string, string[], number[]]>([
    ['a million keys', [keys(100_000)], [202]],
    ['a million keys, too many for a body', [keys(1_000_000)], [413]],
    ['the same key again and again', [`{${'"rule":"a",'.repeat(80_000)}"rule":"r"}`], [202]],
    [
      'deep nesting',
      [
        `{"rule":"r","x":${'['.repeat(400_000)}${']'.repeat(400_000)}}`,
        `{"rule":"r","x":${'{"a":'.repeat(150_000)}1${'}'.repeat(150_000)}}`,
      ],
      [400],
    ],
    [
      'deep nesting in a list',
      [`[${'['.repeat(500_000)}`, `[${alert},{"rule":"r","x":${'['.repeat(1_000)}${']'.repeat(1_000)}}]`],
      [400, 207],
    ],
    [
      'huge strings',
      [
        of({ output: 'x'.repeat(1_000_000) }),
        of({ [`${'k'.repeat(500_000)}`]: 1 }),
        of({ rule: 'r'.repeat(1_000_000) }),
      ],
      [202],
    ],
    [
      'control characters',
      [of({ rule: controls, output: controls, hostname: controls, output_fields: { [controls]: controls } })],
      [202],
    ],
    ['raw control characters', ['{"rule":"\u0001"}', '{"rule":"a\u0000"}', '{"rule":"\u001b[2J"}'], [400]],
    ['halves of surrogate pairs', ['{"rule":"\\ud800","output":"\\udfff\\ud800"}'], [202]],
    [
      'numbers beyond all numbers',
      ['{"rule":"r","output_fields":{"evt.time":1e999,"fd.rport":-1e999,"x":123456789012345678901234567890}}'],
      [202],
    ],
    ['wrong types in every field', fields.flatMap((field) => types.map((value) => of({ [field]: value }))), [202, 400]],
    [
      'wrong types of rules',
      types.filter((value) => typeof value !== 'string').map((value) => of({ rule: value })),
      [400],
    ],
    [
      'wrong types within the fields',
      types.map((value) =>
        of({
          output_fields: { 'evt.type': value, 'fd.name': value, 'fd.cip': value, 'fd.sport': value, 'evt.time': value },
        }),
      ),
      [202],
    ],
    [
      'times far past and future',
      [
        ...times.map((time) => of({ time })),
        ...[0, -1, 2 ** 63, 1e300].map((time) => of({ output_fields: { 'evt.time': time } })),
        of({ time: { seconds: 1e18, nanos: -1 } }),
      ],
      [202],
    ],
    [
      'names of what every object has',
      ['__proto__', 'constructor', 'hasOwnProperty', 'toString'].map(
        (key) => `{"rule":"r","${key}":1,"output_fields":{"${key}":{"x":1}}}`,
      ),
      [202],
    ],
  ])('%s', async (_name, bodies, statuses) => {
    const served = await open();
    const { sender } = served;
    for (const body of bodies) {
      sender.send(post(body));
      expect(statuses, body.slice(0, 100)).toContain((await sender.answer()).status);
    }
    await works(served);
  });
});

test('a body in chunks of a byte takes no more memory than a body', async () => {
  const served = await open();
  const { sender } = served;
  sender.send('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  const chunks = '1\r\nx\r\n'.repeat(10_000);
  const before = inUse();
  let most = 0;
  for (let piece = 0; piece < 40; piece++) {
    sender.send(chunks);
    // It reads 64 KB a round, and gets 60.
    for (let n = 0; n < 8; n++) await round();
    most = Math.max(most, inUse());
  }
  sender.send('0\r\n\r\n');
  expect((await sender.answer()).status).toBe(400);
  expect(served.intake.counts().http).toMatchObject({ received: 1, bad: 1, tooLong: 0 });
  // 400 KB of a body, in 2.4 MB.
  expect(most - before).toBeLessThan(16 << 20);
  await works(served);
}, 60_000);

test('whatever comes a thousand times, memory stays flat and others are served', async () => {
  const served = await open({ limits: { maxBody: 64 << 10, maxConnections: 16 } });
  const { source, intake } = served;
  const attacks: Buffer[] = [
    Buffer.from('garbage\r\n\r\n'),
    Buffer.from(`POST / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}`),
    post('[1,'.repeat(20_000)),
    post('{\n'.repeat(30_000)),
    post('{}\n'.repeat(20_000)),
    post(Buffer.alloc(70_000, 0x5b)),
    post(gzipSync(Buffer.alloc(4 << 20)), { headers: 'Content-Encoding: gzip\r\n' }),
    post(alert, { headers: `Authorization: Bearer ${'x'.repeat(8_000)}\r\n`, path: '/nowhere' }),
    post(alert).subarray(0, 50),
  ];
  const attack = async (): Promise<void> => {
    for (const bytes of attacks) {
      const wire = await openWire(source.port);
      wire.send(bytes);
      // Half a request is left where it is, for the next ones to push it out.
      if (bytes.length === 50) continue;
      await wire.answer().catch(() => null);
      wire.close();
    }
  };
  const falco = await served.wire();
  const speak = async (): Promise<void> => {
    falco.send(post(alert));
    expect((await falco.answer()).status).toBe(202);
  };
  await speak();
  for (let n = 0; n < 15; n++) await attack();
  const before = inUse();
  for (let n = 0; n < 100; n++) {
    await Promise.all([attack(), speak()]);
    await intake.idle();
    served.arrived.length = 0;
  }
  // Some 45 MB were sent.
  expect(inUse() - before).toBeLessThan(16 << 20);
  await works(served);
}, 60_000);
