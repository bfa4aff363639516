import { afterEach, describe, expect, test } from 'vitest';
import { type HttpLimits, type HttpSource, serveHttp } from '../../src/sources/http.ts';
import { type Arrival, Intake, intakeLimits } from '../../src/sources/intake.ts';
import { bodyOf, openWire, post, requests, type Wire } from './wire.ts';

interface Bench {
  readonly source: HttpSource;
  readonly intake: Intake;
  readonly arrived: Arrival[];
  wire(): Promise<Wire>;
}

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});

async function open(limits: Partial<HttpLimits> = {}, queue = intakeLimits): Promise<Bench> {
  const arrived: Arrival[] = [];
  const intake = new Intake((arrival) => arrived.push(arrival), queue, { remembers: false });
  const source = await serveHttp({ address: '127.0.0.1', port: 0, intake, limits });
  opened.push({ close: () => source.close(0) });
  return {
    source,
    intake,
    arrived,
    wire: async () => {
      const wire = await openWire(source.port);
      opened.push(wire);
      return wire;
    },
  };
}

const alert = '{"rule":"r","output_fields":{"fd.name":"1.2.3.4:1->5.6.7.8:2"}}';

describe.each(['http-0.43', 'sidekick-2.34'] as const)('recorded requests of %s', (name) => {
  test('each is answered 202 on one connection and arrives as it was sent', async () => {
    const { arrived, intake, wire } = await open();
    const recorded = requests(name);
    expect(recorded.length).toBeGreaterThan(0);
    const sender = await wire();
    for (const request of recorded) {
      sender.send(request);
      expect((await sender.answer()).status).toBe(202);
    }
    await intake.idle();
    expect(arrived.map(({ text }) => text)).toEqual(recorded.map(bodyOf));
    expect(arrived.every(({ alert: { origin }, source }) => origin === 'local' && source.name === 'http')).toBe(true);
    expect(intake.counts()).toMatchObject({
      http: { received: recorded.length, bad: 0, tooLong: 0, shed: 0, decided: recorded.length },
    });
  });

  test('all at once in one write (pipelined)', async () => {
    const { arrived, intake, wire } = await open();
    const recorded = requests(name);
    const sender = await wire();
    sender.send(Buffer.concat(recorded));
    for (const _ of recorded) expect((await sender.answer()).status).toBe(202);
    await intake.idle();
    expect(arrived.map(({ text }) => text)).toEqual(recorded.map(bodyOf));
  });
});

test('a recorded request may be split at any byte', async () => {
  const { arrived, intake, wire } = await open();
  const [request = Buffer.alloc(0)] = requests('http-0.43');
  const sender = await wire();
  for (let at = 1; at < request.length; at++) {
    sender.send(request.subarray(0, at));
    // the server has read the first part when it answers somebody else
    if (at % 100 === 1) {
      const other = await wire();
      other.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
      expect((await other.answer()).status).toBe(200);
      other.close();
    } else {
      await new Promise((resolve) => setImmediate(resolve));
    }
    sender.send(request.subarray(at));
    expect((await sender.answer()).status).toBe(202);
  }
  await intake.idle();
  expect(arrived).toHaveLength(request.length - 1);
  expect(new Set(arrived.map(({ text }) => text))).toEqual(new Set([bodyOf(request)]));
});

test('a chunked body and "Expect: 100-continue" are understood', async () => {
  const { arrived, intake, wire } = await open();
  const sender = await wire();
  const [head, tail] = [alert.slice(0, 10), alert.slice(10)];
  sender.send('POST /falco?x=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  for (const part of [head, tail, '']) sender.send(`${part.length.toString(16)}\r\n${part}\r\n`);
  expect((await sender.answer()).status).toBe(202);
  sender.send(`POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${alert.length}\r\n\r\n`);
  expect((await sender.answer()).status).toBe(100);
  sender.send(alert);
  expect((await sender.answer()).status).toBe(202);
  await intake.idle();
  expect(arrived.map(({ text }) => text)).toEqual([alert, alert]);
});

const deep = `{"rule":"r","x":${'['.repeat(10_000)}${']'.repeat(10_000)}}`;

describe('bad bodies are answered 400, counted, and the connection goes on', () => {
  test.each([
    ['nothing', ''],
    ['garbage', '\u0000\u0001\u0002'],
    ['half a JSON object', alert.slice(0, 30)],
    ['two objects', `${alert}${alert}`],
    ['a list in a list', `[[${alert}]]`],
    ['a list without an end', `[`],
    ['a string', '"alert"'],
    ['null', 'null'],
    ['no rule', '{"output":"x"}'],
    ['a rule of another type', '{"rule":{"toString":"x"}}'],
    ['fields of another type', '{"rule":"r","output_fields":[]}'],
    ['deep nesting', deep],
    ['not UTF-8', Buffer.from([0x7b, 0xff, 0xfe])],
    ['gzip', Buffer.from([0x1f, 0x8b, 8, 0])],
  ])('%s', async (_name, body) => {
    const { arrived, intake, wire } = await open();
    const sender = await wire();
    sender.send(post(body));
    const answer = await sender.answer();
    expect(answer.status).toBe(400);
    expect(answer.body).toMatch(/^[^\n]+\n$/);
    sender.send(post(alert));
    expect((await sender.answer()).status).toBe(202);
    await intake.idle();
    expect(arrived).toHaveLength(1);
    expect(intake.counts()).toMatchObject({ http: { received: 2, bad: 1, tooLong: 0, shed: 0, decided: 1 } });
  });
});

test('__proto__ in a body is a key like any other', async () => {
  const { arrived, intake, wire } = await open();
  const sender = await wire();
  sender.send(post('{"rule":"r","__proto__":{"hostname":"evil"},"output_fields":{"__proto__":{"fd.name":"x"}}}'));
  expect((await sender.answer()).status).toBe(202);
  await intake.idle();
  expect(arrived[0]?.alert.hostname).toBe(null);
  expect(({} as Record<string, unknown>).hostname).toBeUndefined();
});

describe('what is not an alert', () => {
  const get = (line: string) => `${line} HTTP/1.1\r\nHost: x\r\n\r\n`;
  test.each<[string, string | Buffer, number, RegExp]>([
    ['health', get('GET /healthz'), 200, /./],
    ['health, POST', post('x', { path: '/healthz' }), 405, /allow: GET/i],
    ['GET /', get('GET /'), 405, /allow: POST/i],
    ['PUT /falco', post(alert).toString().replace('POST /', 'PUT /falco'), 405, /allow: POST/i],
    ['GET elsewhere', get('GET /metrics'), 404, /./],
    ['POST elsewhere', post(alert, { path: '/falco/x' }), 404, /./],
    ['no path', get('OPTIONS *'), 404, /./],
    ['of a web page', post(alert, { headers: 'Origin: http://evil.example\r\n' }), 403, /./],
    [
      'otherwise compressed',
      post(alert, { headers: 'Content-Encoding: br\r\n' }),
      415,
      /accept-encoding: gzip, identity/i,
    ],
    ['compressed twice', post(alert, { headers: 'Content-Encoding: gzip, gzip\r\n' }), 415, /./],
    ['no HTTP', 'hello\r\n\r\n', 400, /connection: close/i],
    ['two lengths', 'POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx', 400, /connection: close/i],
    [
      'length and chunks',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx',
      400,
      /./,
    ],
    ['an upgrade', post(alert, { headers: 'Connection: upgrade\r\nUpgrade: websocket\r\n', path: '/ws' }), 404, /./],
    ['headers too large', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431, /connection: close/i],
  ])('%s', async (_name, bytes, status, head) => {
    const { arrived, intake, wire } = await open();
    const sender = await wire();
    sender.send(bytes);
    const answer = await sender.answer();
    expect(answer.status).toBe(status);
    expect(answer.head).toMatch(head);
    await intake.idle();
    expect(arrived).toHaveLength(0);
  });
});

describe('too large', () => {
  test('10 MB that say so: 413, counted, and the connection goes on', async () => {
    const { intake, wire } = await open();
    const sender = await wire();
    sender.send(post(Buffer.alloc(10_000_000, 0x20)));
    expect((await sender.answer()).status).toBe(413);
    sender.send(post(alert));
    expect((await sender.answer()).status).toBe(202);
    await intake.idle();
    expect(intake.counts()).toMatchObject({ http: { received: 2, bad: 1, tooLong: 1, shed: 0, decided: 1 } });
  });

  test('one byte too many in chunks: 413; exactly the limit: taken', async () => {
    const maxBody = 2_000;
    const { intake, wire } = await open({ maxBody });
    const sender = await wire();
    sender.send(post(alert.padEnd(maxBody)));
    expect((await sender.answer()).status).toBe(202);
    sender.send('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
    const body = alert.padEnd(maxBody + 1);
    sender.send(`${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`);
    expect((await sender.answer()).status).toBe(413);
    sender.send(post(alert));
    expect((await sender.answer()).status).toBe(202);
    await intake.idle();
    expect(intake.counts()).toMatchObject({ http: { received: 3, bad: 1, tooLong: 1, shed: 0, decided: 2 } });
  });

  test('a body that never ends is cut', async () => {
    const { wire } = await open({ maxBody: 2_000 });
    const sender = await wire();
    sender.send('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
    const chunk = `1000\r\n${' '.repeat(0x1000)}\r\n`;
    let isClosed = false;
    sender.socket.on('close', () => {
      isClosed = true;
    });
    while (!isClosed) {
      sender.send(chunk);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await sender.closed;
    expect(isClosed).toBe(true);
  });

  test('told no before the body is sent, the connection ends', async () => {
    const { wire } = await open();
    const sender = await wire();
    sender.send('POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10000000\r\n\r\n');
    const answer = await sender.answer();
    expect(answer.status).toBe(413);
    expect(answer.head).toMatch(/connection: close/i);
    await sender.closed;
  });
});

describe('slow and many', () => {
  test.each([
    ['a connection without a word', ''],
    ['half a header', 'POST / HTTP/1.1\r\nHost: x\r\nContent-'],
    ['half a body', post(alert).subarray(0, -10)],
  ])('%s is cut', async (_name, bytes) => {
    const { intake, wire } = await open({ headersMs: 60, requestMs: 80 });
    const sender = await wire();
    sender.send(bytes);
    await sender.closed;
    expect(intake.counts().http?.decided ?? 0).toBe(0);
  });

  test('an idle connection is closed, one in use is not', async () => {
    const { wire } = await open({ keepAliveMs: 50 });
    const sender = await wire();
    for (let n = 0; n < 3; n++) {
      sender.send(post(alert));
      expect((await sender.answer()).status).toBe(202);
    }
    await sender.closed;
  });

  test('more connections than allowed: the idle ones make room', async () => {
    const { wire } = await open({ maxConnections: 2 });
    const idle = [await wire(), await wire()];
    for (const each of idle) {
      each.send(post(alert));
      expect((await each.answer()).status).toBe(202);
    }
    const refused = await wire();
    await Promise.all([refused.closed, ...idle.map(({ closed }) => closed)]);
    const next = await wire();
    next.send(post(alert));
    expect((await next.answer()).status).toBe(202);
  });

  test('who opens connections and says nothing takes no slot from who speaks', async () => {
    const { wire } = await open({ maxConnections: 3 });
    const falco = await wire();
    falco.send(post(alert));
    expect((await falco.answer()).status).toBe(202);
    const silent = [await wire(), await wire()];
    for (const each of silent) each.send('POST / HTTP/1.1\r\nHost: x\r\nContent-Le');
    // Each new one is taken, and the oldest that has brought nothing goes.
    for (const each of silent) {
      const fresh = await wire();
      fresh.send(post(alert));
      expect((await fresh.answer()).status).toBe(202);
      await each.closed;
      fresh.close();
    }
    falco.send(post(alert));
    expect((await falco.answer()).status).toBe(202);
  });

  test('a full queue: 503 with Retry-After, and the alert is counted as shed', async () => {
    const { intake, wire } = await open({}, { alerts: 1, characters: 1 << 20 });
    const sender = await wire();
    sender.send(Buffer.concat([post(alert), post(alert), post(alert)]));
    const answers = [await sender.answer(), await sender.answer(), await sender.answer()];
    expect(answers.map(({ status }) => status)).toEqual([202, 503, 503]);
    expect(answers[1]?.head).toMatch(/^retry-after: 1$/im);
    await intake.idle();
    expect(intake.counts()).toMatchObject({ http: { received: 3, bad: 0, tooLong: 0, shed: 2, decided: 1 } });
  });
});

describe('the end', () => {
  test('a request that has begun is finished, then the connection closes', async () => {
    const { source, arrived, intake, wire } = await open();
    const sender = await wire();
    const request = post(alert);
    sender.send(request.subarray(0, 60));
    const other = await wire();
    other.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await other.answer();
    const closing = source.close(5_000);
    sender.send(request.subarray(60));
    const answer = await sender.answer();
    expect(answer.status).toBe(202);
    expect(answer.head).toMatch(/connection: close/i);
    await closing;
    await intake.idle();
    expect(arrived).toHaveLength(1);
    await expect(openWire(source.port)).rejects.toThrow(/ECONNREFUSED/);
  });

  test('who does not finish in time is cut', async () => {
    const { source, wire } = await open();
    const sender = await wire();
    sender.send(post(alert).subarray(0, 60));
    await source.close(30);
    await sender.closed;
  });
});

test('a port that is taken is said so', async () => {
  const { source } = await open();
  await expect(
    serveHttp({ address: '127.0.0.1', port: source.port, intake: new Intake(() => undefined) }),
  ).rejects.toMatchObject({
    code: 'listen_failed',
    message: expect.stringContaining('the port is taken'),
    hint: expect.stringContaining('ss -ltnp'),
  });
});
