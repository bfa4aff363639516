import { chownSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Alert, parseAlert } from '../../../src/alert/alert.ts';
import type { HostFacts } from '../../../src/judge/host-facts.ts';
import { type Decision, defaultRules, judge } from '../../../src/judge/judge.ts';
import type { FalcoAddress, Tls } from '../../../src/sources/grpc/connection.ts';
import { type GrpcPace, GrpcSubscription, grpcPace } from '../../../src/sources/grpc/subscription.ts';
import { type Arrival, Intake } from '../../../src/sources/intake.ts';
import { grpcBytes, grpcMessages, ownAddresses, recording, type recordings } from '../../alert/recordings.ts';
import { bareHost, setOf } from '../../judge/host.ts';
import { until } from '../../kernel/lab.ts';
import { makeCertificates, type Pair } from './certificates.ts';
import { encodeAlert, type FakeFalco, type FalcoOptions, startFalco } from './falco.ts';

const source = 'grpc:test';
const pace: Partial<GrpcPace> = { requestMs: 5, firstDelayMs: 5, longestDelayMs: 20, graceMs: 200, clientsMs: 20 };

let directory = '';
let path = '';
const started: { readonly stop: () => Promise<void> }[] = [];
const falcos: FakeFalco[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fd-grpc-'));
  path = join(directory, 'falco.sock');
});
afterEach(async () => {
  for (const { stop } of started.splice(0)) await stop();
  for (const { kill } of falcos.splice(0)) kill();
  rmSync(directory, { recursive: true, force: true });
});

async function falcoAt(options: Partial<FalcoOptions> = {}): Promise<FakeFalco> {
  const falco = await startFalco({ listen: `unix://${path}`, ...options });
  falcos.push(falco);
  return falco;
}

interface Said {
  readonly level: string;
  readonly message: string;
  readonly [key: string]: unknown;
}

interface Subscribed {
  readonly arrivals: Arrival[];
  readonly said: Said[];
  readonly intake: Intake;
  readonly stop: () => Promise<void>;
  /** Waits for so many alerts, and for nothing else. */
  readonly have: (count: number) => Promise<void>;
  readonly says: (message: string) => Promise<Said>;
}

function subscribe(
  address: FalcoAddress = { path },
  {
    onAlert = () => undefined,
    readTls = null,
    longest = 65_536,
    ...faster
  }: Partial<GrpcPace> & { onAlert?: (arrival: Arrival) => void; readTls?: (() => Tls) | null; longest?: number } = {},
): Subscribed {
  const arrivals: Arrival[] = [];
  const said: Said[] = [];
  const intake = new Intake((arrival) => {
    arrivals.push(arrival);
    onAlert(arrival);
  });
  const subscription = new GrpcSubscription({
    address,
    readTls,
    intake,
    source,
    longest,
    say: (level, message, details) => said.push({ level, message, ...details }),
    pace: { ...pace, ...faster },
  });
  subscription.start();
  const stop = () => subscription.stop();
  started.push({ stop });
  return {
    arrivals,
    said,
    intake,
    stop,
    have: (count) => until(`${count} alerts`, () => arrivals.length >= count),
    says: async (message) => {
      await until(message, () => said.some((line) => line.message === message));
      return said.find((line) => line.message === message) as Said;
    },
  };
}

const alert = (rule: string, rest: object = {}): Buffer =>
  encodeAlert({
    rule,
    source: 'syscall',
    time: { seconds: 1_795_293_638, nanos: 0 },
    output_fields: { a: 'b' },
    ...rest,
  });
const alerts = (count: number, from = 0): Buffer[] => Array.from({ length: count }, (_, n) => alert(`${from + n}`));
const numbers = (count: number, from = 0): string[] => Array.from({ length: count }, (_, n) => `${from + n}`);

describe('over a unix socket', () => {
  test('a backlog, then what comes, in order; the version is said', async () => {
    const falco = await falcoAt();
    falco.queue.push(...alerts(50));
    const { have, says, arrivals, intake, said } = subscribe();
    await have(50);
    expect(await says('connected')).toMatchObject({
      level: 'info',
      source,
      falco: '0.43.1',
      queue: expect.stringContaining('one queue'),
    });
    expect(await says('backlog taken')).toMatchObject({ alerts: 50 });
    for (let n = 50; n < 60; n++) {
      falco.queue.push(alert(`${n}`));
      await have(n + 1);
    }
    expect(arrivals.map(({ alert: { rule } }) => rule)).toEqual(numbers(60));
    expect(arrivals[0]).toMatchObject({
      source: { name: source },
      alert: { origin: 'local', timeNs: 1_795_293_638_000_000_000n },
    });
    expect(intake.counts()[source]).toMatchObject({ received: 60, bad: 0, shed: 0, decided: 60 });
    expect(said.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  test('it goes on asking, steadily, for Falco looks at its queue only then', async () => {
    const falco = await falcoAt();
    subscribe();
    await until('requests', () => falco.seen.requests > 20);
    expect(falco.seen.subs).toBe(1);
    expect(grpcPace.requestMs).toBeLessThanOrEqual(1_000);
  });

  test('a Falco that comes later, and one without a version', async () => {
    const { says, have } = subscribe();
    expect(await says('not connected; it is tried again')).toMatchObject({
      level: 'warn',
      problem: 'the socket is not there yet',
    });
    const falco = await falcoAt({ version: null });
    falco.queue.push(...alerts(3));
    await have(3);
    expect(await says('connected')).toMatchObject({ falco: null });
  });

  test('a Falco that is killed and comes back, again and again: what it has not popped comes', async () => {
    let falco = await falcoAt();
    const { have, arrivals, said } = subscribe();
    for (let life = 0; life < 20; life++) {
      falco.queue.push(...alerts(10, life * 10));
      await have(life * 10 + 10);
      falco.kill();
      falco = await falcoAt();
    }
    await until('the last connection', () => falco.seen.subs === 1);
    expect(arrivals.map(({ alert: { rule } }) => rule)).toEqual(numbers(200));
    // It is not said forty times.
    expect(said.length).toBeLessThanOrEqual(20 + 10);
    expect(said.filter(({ level }) => level === 'warn').length).toBeLessThanOrEqual(10);
  });

  test('connections that break in the middle of a flood: what was on its way is lost, nothing comes twice, the rest comes', async () => {
    let falco = await falcoAt();
    const breaks = 8;
    falco.queue.push(...Array.from({ length: 10_000 }, (_, n) => alert(`${n}`, { output: 'x'.repeat(1_000) })));
    const { arrivals, said } = subscribe();
    for (let n = 0; n < breaks; n++) {
      const wanted = arrivals.length + 500;
      await until('more', () => arrivals.length >= wanted);
      falco.kill();
      falco = await falcoAt({ queue: falco.queue });
    }
    await until('the end', () => falco.queue.length === 0 && falco.seen.subs === 1);
    const came = arrivals.map(({ alert: { rule } }) => Number(rule));
    expect(came).toEqual([...new Set(came)].toSorted((a, b) => a - b));
    expect(came.at(-1)).toBe(9_999);
    // The windows of a stream and of sockets, in alerts of a kilobyte.
    expect(came.length).toBeGreaterThan(10_000 - breaks * 400);
    expect(said.length).toBeLessThanOrEqual(30);
  });

  test('stopped while it waits for an answer, or for the next attempt: at once', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined).resume());
    server.listen(path);
    let accepted = 0;
    server.on('connection', () => accepted++);
    const mute = subscribe(undefined, { connectMs: 600_000 });
    await until('a connection', () => accepted > 0);
    await mute.stop();
    await new Promise((resolve) => server.close(resolve));
    const waiting = subscribe(undefined, { firstDelayMs: 600_000, longestDelayMs: 600_000 });
    await waiting.says('not connected; it is tried again');
    await waiting.stop();
    expect(mute.said).toEqual([]);
  });

  test('a socket that nobody listens at any more', async () => {
    const falco = await falcoAt();
    // The path stays when a process is killed.
    falco.kill();
    const server = createServer().listen(path);
    await new Promise((resolve) => server.once('listening', resolve));
    const other = join(directory, 'x.sock');
    symlinkSync(path, other);
    const closed = new Promise((resolve) => server.close(resolve));
    await closed;
    writeFileSync(path, '');
    const { says } = subscribe({ path: other });
    expect(await says('not connected; it is tried again')).toMatchObject({ problem: 'it is no socket' });
  });

  test('stopped while nothing comes: at once, and Falco is left in peace', async () => {
    const falco = await falcoAt();
    const { stop, have } = subscribe(undefined, { graceMs: 60_000 });
    falco.queue.push(alert('0'));
    await have(1);
    await until('a subscription', () => falco.seen.subs === 1);
    await stop();
    await until('its end', () => falco.seen.subs === 0);
    falco.queue.push(alert('1'));
    expect(falco.queue).toHaveLength(1);
  });

  test('stopped in the middle of a backlog: what was on its way is taken, the next one takes the rest', async () => {
    const falco = await falcoAt();
    falco.queue.push(...alerts(20_000));
    const first = subscribe(undefined, { graceMs: 0 });
    await first.have(100);
    await first.stop();
    await first.intake.idle();
    const second = subscribe();
    await until('the rest', () => falco.queue.length === 0);
    await second.says('backlog taken');
    const all = [...first.arrivals, ...second.arrivals].map(({ alert: { rule } }) => Number(rule));
    // Falco has popped what was in the windows of the connection that was cut.
    expect(all.length).toBeGreaterThan(18_000);
    expect(all).toEqual([...new Set(all)].toSorted((a, b) => a - b));
  });

  test('while there is no room it reads no more: Falco keeps its queue, and nothing is shed', async () => {
    const falco = await falcoAt();
    const big = { output: 'x'.repeat(8_000) };
    for (let n = 0; n < 5_000; n++) falco.queue.push(alert(`${n}`, big));
    let waiting = 0;
    const subscribed = subscribe(undefined, {
      onAlert: () => {
        waiting = Math.max(waiting, subscribed.intake.waiting);
        const until = performance.now() + 0.2;
        while (performance.now() < until);
      },
    });
    await subscribed.have(500);
    expect(falco.queue.length).toBeGreaterThan(3_000);
    await subscribed.have(5_000);
    expect(subscribed.arrivals.map(({ alert: { rule } }) => rule)).toEqual(numbers(5_000));
    expect(waiting).toBeLessThanOrEqual(128);
    expect(subscribed.intake.counts()[source]).toMatchObject({ shed: 0, decided: 5_000 });
  });

  test('rubbish among alerts is counted, said once, and ends nothing', async () => {
    const falco = await falcoAt();
    const messages = [
      Buffer.alloc(0),
      Buffer.from([0xff, 0xff]),
      alert('0'),
      Buffer.from('{"rule":"in JSON"}'),
      alert('', { output: 'no rule' }),
      alert('long', { output: 'x'.repeat(70_000) }),
      alert('1'),
    ];
    falco.queue.push(...messages);
    const { have, arrivals, intake, said } = subscribe();
    await have(2);
    falco.queue.push(alert('2'));
    await have(3);
    expect(arrivals.map(({ alert: { rule } }) => rule)).toEqual(numbers(3));
    expect(intake.counts()[source]).toMatchObject({ received: 8, bad: 5, tooLong: 1, decided: 3 });
    expect(said.filter(({ message }) => message === 'a message is no alert')).toHaveLength(1);
    expect(falco.seen.subs).toBe(1);
  });

  test('a message that is larger than any may be ends its stream, and the next ones come', async () => {
    const falco = await falcoAt();
    falco.queue.push(alert('0'), alert('long', { output: 'x'.repeat(17 << 20) }), alert('1'));
    const { have, arrivals, says } = subscribe();
    await have(2);
    expect(arrivals.map(({ alert: { rule } }) => rule)).toEqual(numbers(2));
    expect(await says('connection lost; it is opened again')).toMatchObject({
      problem: expect.stringContaining('too large'),
    });
  });

  test('two clients: each alert comes to one of them, and the log says why', async () => {
    const falco = await falcoAt();
    const one = subscribe();
    const two = subscribe();
    await until('both', () => falco.seen.subs === 2);
    for (let n = 0; n < 500; n++) {
      falco.queue.push(alert(`${n}`));
      if (n % 10 === 0) await until('taken', () => falco.queue.length === 0);
    }
    await until('all', () => one.arrivals.length + two.arrivals.length === 500);
    const all = [...one.arrivals, ...two.arrivals].map(({ alert: { rule } }) => Number(rule));
    expect(all.toSorted((a, b) => a - b)).toEqual(numbers(500).map(Number));
    expect(await one.says('other clients are connected to this Falco')).toMatchObject({
      level: 'warn',
      others: 1,
      problem: expect.stringContaining('one queue'),
    });
  });

  test('one client: nothing is said of others', async () => {
    const falco = await falcoAt();
    const { said } = subscribe(undefined, { clientsMs: 2 });
    await until('requests', () => falco.seen.requests > 20);
    expect(said.map(({ message }) => message)).toEqual(['connected']);
  });

  test("a socket that is another user's is not connected to", async (context) => {
    if (process.getuid?.() !== 0) return context.skip('only root can give a socket away');
    const falco = await falcoAt();
    falco.queue.push(alert('0'));
    chownSync(path, 12_345, 12_345);
    const { says, have, arrivals } = subscribe();
    expect(await says('not connected; it is tried again')).toMatchObject({
      problem: expect.stringContaining('belongs to user 12345'),
      hint: expect.stringContaining('block'),
    });
    expect(falco.seen.requests).toBe(0);
    expect(arrivals).toEqual([]);
    chownSync(path, 0, 0);
    await have(1);
  });

  test("a socket replaced by another user's, while connected: not connected to again", async (context) => {
    if (process.getuid?.() !== 0) return context.skip('only root can give a socket away');
    const falco = await falcoAt();
    const { says, have, arrivals, said } = subscribe();
    falco.queue.push(alert('0'));
    await have(1);
    falco.kill();
    rmSync(path, { force: true });
    const stranger = await falcoAt();
    chownSync(path, 12_345, 12_345);
    stranger.queue.push(alert('forged'));
    await says('connection lost; it is opened again');
    await until('the refusal', () => said.some(({ problem }) => String(problem).includes('12345')));
    expect(stranger.seen.requests).toBe(0);
    unlinkSync(path);
    stranger.kill();
    const real = await falcoAt();
    real.queue.push(alert('1'));
    await have(2);
    expect(arrivals.map(({ alert: { rule } }) => rule)).toEqual(numbers(2));
  });

  test('a server that has sub alone', async () => {
    const falco = await falcoAt({ version: null, calls: ['sub'] });
    falco.queue.push(...alerts(5));
    const { have, said } = subscribe();
    await have(5);
    expect(said.map(({ message }) => message)).toEqual(['connected']);
  });

  test('a gRPC server that is no Falco: said once, and tried ever more seldom', async () => {
    await falcoAt({ version: null, calls: [] });
    const { says, said } = subscribe(undefined, { firstDelayMs: 1, longestDelayMs: 60_000 });
    expect(await says('connection lost; it is opened again')).toMatchObject({
      problem: 'this server has no alerts of Falco',
    });
    const before = performance.now();
    await until('some attempts', () => said.filter(({ message }) => message === 'connected').length >= 5);
    // 1 + 2 + 4 + 8 + 16 ms, less at most half.
    expect(performance.now() - before).toBeGreaterThan(10);
  });

  test.each<[string, (socket: Socket) => void, string]>([
    [
      'speaks something else',
      (socket) => socket.end('220 mail.example.org ESMTP\r\n'),
      'what answers there speaks no gRPC',
    ],
    ['hangs up', (socket) => socket.destroy(), 'it hung up at once'],
    ['says nothing', () => undefined, 'it does not answer'],
  ])('who %s: said once, and one connection at a time is open', async (_, answer, problem) => {
    let open = 0;
    let most = 0;
    let attempts = 0;
    const server = createServer((socket) => {
      attempts++;
      most = Math.max(most, ++open);
      socket.on('error', () => undefined);
      socket.on('close', () => open--);
      socket.resume();
      answer(socket);
    });
    server.listen(path);
    const { said, stop } = subscribe(undefined, { connectMs: 50 });
    await until('some attempts', () => attempts > 10);
    await stop();
    await new Promise((resolve) => server.close(resolve));
    expect(most).toBeLessThanOrEqual(2);
    const problems = said.map((line) => line.problem);
    expect(problems).toContain(problem);
    expect(said.length).toBeLessThanOrEqual(3);
  });
});

describe('over TCP, both sides with certificates', () => {
  const certificatesIn = mkdtempSync(join(tmpdir(), 'fd-grpc-tls-'));
  const made = makeCertificates(certificatesIn);
  afterAll(() => rmSync(certificatesIn, { recursive: true }));

  const falcoWith = (server: Pair, listen = '127.0.0.1:0'): Promise<FakeFalco> =>
    falcoAt({
      listen,
      credentials: ServerCredentials.createSsl(
        Buffer.from(made.ca.cert),
        [{ cert_chain: Buffer.from(server.cert), private_key: Buffer.from(server.key) }],
        true,
      ),
    });
  const tlsOf = (
    client: Pair,
    { ca = made.ca, name = 'localhost' }: { ca?: Pair; name?: string | null } = {},
  ): Tls => ({
    ca: ca.cert,
    cert: client.cert,
    key: client.key,
    name,
  });

  test('alerts come; without a hostname they are ours, for it is loopback', async () => {
    const falco = await falcoWith(made.server);
    falco.queue.push(...alerts(20));
    const { have, says, arrivals } = subscribe(
      { host: '127.0.0.1', port: falco.port },
      { readTls: () => tlsOf(made.client) },
    );
    await have(20);
    expect(await says('connected')).toMatchObject({ falco: '0.43.1' });
    expect(arrivals[0]?.alert.origin).toBe('local');
  });

  test('by a name, that its certificate has', async () => {
    const falco = await falcoWith(made.server);
    falco.queue.push(...alerts(1));
    const { have } = subscribe(
      { host: 'localhost', port: falco.port },
      { readTls: () => tlsOf(made.client, { name: null }) },
    );
    await have(1);
  });

  test('killed and started again on the same port', async () => {
    let falco = await falcoWith(made.server);
    const { port } = falco;
    const { have, arrivals } = subscribe({ host: '127.0.0.1', port }, { readTls: () => tlsOf(made.client) });
    for (let life = 0; life < 5; life++) {
      falco.queue.push(...alerts(4, life * 4));
      await have(life * 4 + 4);
      falco.kill();
      falco = await falcoWith(made.server, `127.0.0.1:${port}`);
    }
    expect(arrivals.map(({ alert: { rule } }) => rule)).toEqual(numbers(20));
  });

  test.each<[string, Pair, () => Tls, string]>([
    ['our certificate is of another CA', made.server, () => tlsOf(made.strangeClient), 'Falco refuses our certificate'],
    [
      'our certificate has expired',
      made.server,
      () => tlsOf(made.expiredClient),
      'Falco refuses our certificate: it has expired',
    ],
    ['its certificate has expired', made.expiredServer, () => tlsOf(made.client), "Falco's certificate has expired"],
    [
      'its certificate is of another CA',
      made.server,
      () => tlsOf(made.client, { ca: made.otherCa }),
      "Falco's certificate is not of the CA in grpc.tls.ca",
    ],
    [
      'its certificate is for another name',
      made.server,
      () => tlsOf(made.client, { name: null }),
      "Falco's certificate is for another name",
    ],
    [
      'the key is not that of the certificate',
      made.server,
      () => ({ ...tlsOf(made.client), key: made.strangeClient.key }),
      'key',
    ],
  ])('%s: said in words, and no alert comes', async (_, server, readTls, problem) => {
    const falco = await falcoWith(server);
    falco.queue.push(...alerts(1));
    const { says, arrivals } = subscribe({ host: '127.0.0.1', port: falco.port }, { readTls });
    expect(await says('not connected; it is tried again')).toMatchObject({
      level: 'warn',
      problem: expect.stringContaining(problem),
    });
    expect(falco.seen.requests).toBe(0);
    expect(falco.queue).toHaveLength(1);
    expect(arrivals).toEqual([]);
  });

  test('a certificate that is made anew is taken without a restart', async () => {
    const falco = await falcoWith(made.server);
    falco.queue.push(...alerts(1));
    let tls = tlsOf(made.expiredClient);
    const { says, have } = subscribe({ host: '127.0.0.1', port: falco.port }, { readTls: () => tls });
    await says('not connected; it is tried again');
    tls = tlsOf(made.client);
    await have(1);
  });

  test('no client certificate at all: Falco lets nobody in', async () => {
    const falco = await falcoWith(made.server);
    falco.queue.push(...alerts(1));
    const client = new Client(`127.0.0.1:${falco.port}`, credentials.createSsl(Buffer.from(made.ca.cert)), {
      'grpc.ssl_target_name_override': 'localhost',
    });
    const raw = (bytes: Buffer): Buffer => bytes;
    const failed = new Promise<number>((resolve, reject) => {
      const call = client.makeServerStreamRequest('/falco.outputs.service/get', raw, raw, Buffer.alloc(0));
      call.on('data', () => reject(new Error('it has let us in')));
      call.on('error', ({ code }: ServiceError) => resolve(code));
    });
    expect(await failed).toBe(status.UNAVAILABLE);
    client.close();
    expect(falco.queue).toHaveLength(1);
  });

  test('no TLS spoken there', async () => {
    const falco = await falcoAt({ listen: '127.0.0.1:0' });
    const { says } = subscribe({ host: '127.0.0.1', port: falco.port }, { readTls: () => tlsOf(made.client) });
    expect(await says('not connected; it is tried again')).toMatchObject({
      problem: 'no TLS was spoken there, or it hung up at once',
    });
  });
});

describe('recorded alerts, served as they came', () => {
  const host: HostFacts = { ...bareHost, own: setOf(...ownAddresses) };
  const decide = ({ alert: came }: Pick<Arrival, 'alert'>): Decision =>
    judge(came, host, defaultRules, { automatic: 'monitor' }, Number((came.timeNs ?? 0n) / 1_000_000n));
  const identity = ({ timeNs, rule, fields }: Alert): string => `${timeNs} ${rule} ${String(fields?.['fd.name'])}`;
  const linesOf = (name: (typeof recordings)[number]): Map<string, Alert> =>
    new Map(
      recording(name).lines.map((line) => {
        const read = parseAlert(line, 'local');
        if ('problem' in read) throw new Error(read.problem);
        return [identity(read), read];
      }),
    );

  test.each<[string, () => readonly Buffer[], (typeof recordings)[number], number]>([
    ['0.43', grpcBytes, 'falco-0.43-append', 90],
    ['0.40', () => grpcMessages().map(encodeAlert), 'falco-0.40', 0],
  ])('%s: the verdicts are those of the lines of the same alerts', async (_, bytes, lines, most) => {
    const falco = await falcoAt();
    falco.queue.push(...bytes());
    const { arrivals, have, intake } = subscribe();
    await have(bytes().length);
    expect(intake.counts()[source]).toMatchObject({ bad: 0, shed: 0, decided: bytes().length });
    const written = linesOf(lines);
    let same = 0;
    let blocks = 0;
    for (const arrival of arrivals) {
      const decision = decide(arrival);
      if (decision.verdict === 'block') blocks++;
      const read = parseAlert(arrival.text, 'local');
      if ('problem' in read) throw new Error(read.problem);
      expect(decide({ alert: read })).toEqual(decision);
      const line = written.get(identity(arrival.alert));
      if (line === undefined) continue;
      same++;
      expect(decision).toEqual(decide({ alert: line }));
    }
    expect(same).toBeGreaterThanOrEqual(most);
    expect(blocks).toBeGreaterThan(20);
  });
});
