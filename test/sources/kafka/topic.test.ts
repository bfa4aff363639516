/** A topic against a real broker: every way in, every way that it breaks, and never an alert less. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { KafkaAccess } from '../../../src/sources/kafka/message.ts';
import { type Listener, user } from './broker.ts';
import { alert, type Cluster, numbers, openCluster, type Reader, type Reading, read, unused } from './cluster.ts';

let cluster: Cluster;
beforeAll(async () => {
  cluster = await openCluster();
});
afterAll(() => cluster.close());

const readers: Reader[] = [];
const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await Promise.all(readers.splice(0).map(({ source }) => source.abandon()));
});
function start(reading: Reading): Reader {
  const reader = read(cluster, reading);
  readers.push(reader);
  return reader;
}

const soon = { timeout: 20_000, interval: 10 };
const judged = (reader: Reader, rules: readonly string[]) =>
  expect.poll(() => new Set(reader.judged), soon).toEqual(new Set(rules));
const heard = (reader: Reader, wanted: RegExp) =>
  expect
    .poll(() => reader.said.map(({ message, details }) => `${message}: ${details.problem}`).join('\n'), soon)
    .toMatch(wanted);
const committed = async (group: string, topic: string): Promise<number> =>
  (await cluster.committed(group, topic)).reduce((sum, offset) => sum + offset);
const connected = (reader: Reader) =>
  expect.poll(() => reader.said.map(({ message }) => message), soon).toContain('partitions');

describe('where it reads', () => {
  test('from the beginning; on where it was closed; each alert once', async () => {
    const [topic, group] = [await cluster.topic(3), unused('group')];
    await cluster.send(topic, numbers(0, 50).map(alert));
    const first = start({ topic, group });
    await judged(first, numbers(0, 50));
    await first.source.close();
    expect(await committed(group, topic)).toBe(50);

    await cluster.send(topic, numbers(50, 60).map(alert));
    const second = start({ topic, group });
    await judged(second, numbers(50, 60));
    expect(first.judged).toHaveLength(50);
    expect(second.judged).toHaveLength(10);
    expect(second.source.counts()).toEqual({ aside: 0, unreadable: 0, failures: 0, lag: 0 });
  });

  test('a new group begins at the end, and from then on nothing is lost, whatever becomes of it', async () => {
    const [topic, group] = [await cluster.topic(2), unused('group')];
    await cluster.send(topic, numbers(0, 5).map(alert));
    const first = start({ topic, group, begin: 'latest' });
    await connected(first);
    await first.source.abandon();
    await cluster.send(topic, numbers(5, 9).map(alert));
    const second = start({ topic, group, begin: 'latest' });
    await judged(second, numbers(5, 9));
    expect(first.judged).toEqual([]);
  });

  test('no offset is committed before what lies before it is durable; what was not comes again', async () => {
    const [topic, group] = [await cluster.topic(), unused('group')];
    await cluster.send(topic, numbers(0, 3).map(alert));
    let isDurable = false;
    let asked = 0;
    const durable = async (): Promise<boolean> => {
      asked++;
      return isDurable;
    };
    const first = start({ topic, group, durable, pace: { keepMs: 5 } });
    await judged(first, numbers(0, 3));
    await expect.poll(() => asked, soon).toBeGreaterThan(2);
    expect(await cluster.committed(group, topic)).toEqual([0]);
    await first.source.abandon();

    isDurable = true;
    const second = start({ topic, group, durable, pace: { keepMs: 5 } });
    await judged(second, numbers(0, 3));
    await expect.poll(() => cluster.committed(group, topic), soon).toEqual([3]);
  });

  test('new partitions are read from their beginning', async () => {
    const topic = await cluster.topic(1);
    const reader = start({ topic, begin: 'latest' });
    await connected(reader);
    await cluster.admin.createPartitions({
      topics: [{ name: topic, count: 3, assignments: [{ brokerIds: [1] }, { brokerIds: [1] }] }],
    });
    await cluster.send(topic, numbers(0, 2).map(alert), { partition: 2 });
    await judged(reader, numbers(0, 2));
  });

  test('every compression', async () => {
    const topic = await cluster.topic();
    const reader = start({ topic });
    const compressions = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;
    for (const compression of compressions) await cluster.send(topic, [alert(compression)], { compression });
    await judged(reader, compressions);
  });
});

describe('how it gets in', () => {
  const tls = (): KafkaAccess['tls'] => ({ ca: cluster.certificates.ca.cert, cert: null, key: null });
  const mtls = (name: 'client' | 'expiredClient' | 'strangeClient'): KafkaAccess['tls'] => {
    const { ca, [name]: own } = cluster.certificates;
    return { ca: ca.cert, cert: own.cert, key: own.key };
  };
  const sasl = (mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512', password: string = user.password) => ({
    mechanism,
    username: user.name,
    password,
  });
  const at = (listener: Listener) => ({
    brokers: [{ host: listener.includes('tls') ? 'localhost' : '127.0.0.1', port: cluster.broker.ports[listener] }],
  });

  test.each<[string, Listener, () => KafkaAccess]>([
    ['TLS', 'tls', () => ({ tls: tls(), sasl: null })],
    ['TLS on both sides', 'mtls', () => ({ tls: mtls('client'), sasl: null })],
    ['PLAIN', 'sasl', () => ({ tls: null, sasl: sasl('plain') })],
    ['SCRAM-SHA-256', 'sasl', () => ({ tls: null, sasl: sasl('scram-sha-256') })],
    ['SCRAM-SHA-512', 'sasl', () => ({ tls: null, sasl: sasl('scram-sha-512') })],
  ])('%s', async (_name, listener, readAccess) => {
    const topic = await cluster.topic();
    await cluster.send(topic, [alert('in')]);
    const reader = start({ topic, ...at(listener), readAccess });
    await judged(reader, ['in']);
  });

  const password = /the broker refuses user name or password/;
  test.each<[string, Listener, () => KafkaAccess, RegExp]>([
    ['a wrong password, PLAIN', 'sasl', () => ({ tls: null, sasl: sasl('plain', 'wrong') }), password],
    ['a wrong password, SCRAM', 'sasl', () => ({ tls: null, sasl: sasl('scram-sha-512', 'wrong') }), password],
    [
      'a user that is not there',
      'sasl',
      () => ({ tls: null, sasl: { ...sasl('scram-sha-256'), username: 'nobody' } }),
      password,
    ],
    [
      'another CA',
      'tls',
      () => ({ tls: { ca: cluster.certificates.otherCa.cert, cert: null, key: null }, sasl: null }),
      /not of the CA in kafka.tls.ca/,
    ],
    ['no CA', 'tls', () => ({ tls: { ca: null, cert: null, key: null }, sasl: null }), /not of the CA in kafka.tls.ca/],
    ['no certificate', 'mtls', () => ({ tls: tls(), sasl: null }), /refuses our certificate, or that there is none/],
    ["another CA's certificate", 'mtls', () => ({ tls: mtls('strangeClient'), sasl: null }), /refuses our certificate/],
    ['an expired certificate', 'mtls', () => ({ tls: mtls('expiredClient'), sasl: null }), /refuses our certificate/],
  ])('%s is said once, and not tried again in a storm', async (_name, listener, readAccess, problem) => {
    const reader = start({ topic: 'falco', ...at(listener), readAccess });
    await heard(reader, problem);
    expect(reader.said).toHaveLength(1);
    expect(reader.source.counts().failures).toBe(1);
    expect(JSON.stringify(reader.said)).not.toContain('wrong"');
  });

  test('no TLS where TLS is spoken, TLS where none is, another name than that in the certificate', async () => {
    const plain = start({ topic: 'falco', ...at('tls'), pace: { connectMs: 1_000 } });
    const overTls = start({
      topic: 'falco',
      ...at('plain'),
      readAccess: () => ({ tls: tls(), sasl: null }),
      pace: { connectMs: 1_000 },
    });
    const named = start({
      topic: 'falco',
      brokers: [{ host: '127.0.0.1', port: cluster.broker.ports.tls }],
      readAccess: () => ({ tls: tls(), sasl: null }),
    });
    await heard(plain, /the connection broke|it does not answer/);
    await heard(overTls, /no TLS was spoken there|the connection broke|it does not answer/);
    await heard(named, /certificate is for another name/);
  });

  test('another password is used as soon as it is there', async () => {
    const topic = await cluster.topic();
    await cluster.send(topic, [alert('in')]);
    let password = 'wrong';
    const reader = start({
      topic,
      ...at('sasl'),
      readAccess: () => ({ tls: null, sasl: sasl('scram-sha-256', password) }),
    });
    await heard(reader, /refuses user name or password/);
    password = user.password;
    reader.source.renew();
    await judged(reader, ['in']);
    reader.source.renew();
    expect(reader.source.counts().failures).toBe(1);
  });
});

describe('what is no alert', () => {
  test('is counted, kept aside and never in the way', async () => {
    const [topic, group] = [await cluster.topic(), unused('group')];
    const big = Buffer.alloc(10_000_000, 'x');
    const poison: readonly (readonly [value: string | Buffer | null, problem: RegExp])[] = [
      ['{"rule":', /not JSON/],
      ['{"output":"no rule"}', /names its rule/],
      ['[1]', /is a JSON object/],
      ['', /not JSON/],
      [null, /has no value/],
      [Buffer.from([0xff, 0xfe, 0x00, 0x1b]), /not JSON/],
      ['\u001b]0;title\u0007\u009b2J\u202e', /not JSON/],
      [big, /at most 1048576 bytes/],
      [JSON.stringify({ rule: 'long', output: 'x'.repeat(1 << 20) }), /at most 1048576 bytes/],
    ];
    for (const [value] of poison) await cluster.send(topic, [value, alert('good')]);
    const reader = start({ topic, group });
    await expect.poll(() => reader.judged.length, soon).toBe(poison.length);
    expect(new Set(reader.judged)).toEqual(new Set(['good']));
    await expect.poll(() => cluster.committed(group, topic), soon).toEqual([2 * poison.length]);

    const kept = reader.aside();
    expect(kept.map(({ offset }) => offset)).toEqual(poison.map((_each, n) => 2 * n));
    for (const [n, [value, problem]] of poison.entries()) {
      expect(kept[n]).toMatchObject({
        source: 'kafka:test',
        topic,
        partition: 0,
        problem: expect.stringMatching(problem),
      });
      expect(kept[n]?.bytes).toBe(value === null ? null : Buffer.byteLength(value));
      expect(String(kept[n]?.text).length).toBeLessThanOrEqual(4_096);
    }
    expect(kept[6]?.text).toBe(poison[6]?.[0]);
    expect(reader.intake.counts()['kafka:test']).toMatchObject({ received: 18, bad: 9, tooLong: 2, decided: 9 });
    // Once a period.
    expect(reader.said.filter(({ level }) => level === 'warn').map(({ message }) => message)).toEqual([
      'a message is no alert, and is kept aside',
    ]);
  });

  test('a flood of it: some are kept, all are counted', async () => {
    const topic = await cluster.topic();
    await cluster.send(topic, [...Array.from({ length: 2_000 }, () => 'x'), alert('good')]);
    const reader = start({ topic });
    await judged(reader, ['good']);
    expect(reader.aside()).toHaveLength(64);
    expect(reader.source.counts().aside).toBe(64);
    expect(reader.intake.counts()['kafka:test']).toMatchObject({ received: 2_001, bad: 2_000 });
  });

  test('what inflates to more than any batch may be is left out, and nothing beside it', async () => {
    const topic = await cluster.topic(2);
    const bomb = Buffer.alloc(130 << 20);
    await cluster.send(topic, numbers(0, 3).map(alert), { partition: 0 });
    await cluster.send(topic, [bomb], { partition: 0, compression: 'gzip' });
    await cluster.send(topic, numbers(3, 6).map(alert), { partition: 0 });
    await cluster.send(topic, numbers(6, 9).map(alert), { partition: 1 });
    // To inflate it takes longer than heartbeats of the tests wait.
    const reader = start({ topic, pace: { sessionMs: 10_000, rebalanceMs: 20_000 } });
    await judged(reader, numbers(0, 9));
    expect(reader.source.counts()).toMatchObject({ unreadable: 1, failures: 0 });
    expect(reader.said).toContainEqual({
      level: 'warn',
      message: 'messages that can not be read are left out',
      details: expect.objectContaining({ partition: 0, from: 3, to: 4 }),
    });
  });

  test('where nothing can be written it goes on all the same', async () => {
    const topic = await cluster.topic();
    await cluster.send(topic, ['x', 'y', alert('good')]);
    const aside = {
      path: '/nowhere',
      keep: () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })),
    };
    const reader = start({ topic, aside: aside as never });
    await judged(reader, ['good']);
    await heard(reader, /can not be kept aside: ENOSPC/);
  });
});

describe('a topic', () => {
  test('that is not there yet is waited for; deleted and made again, it is read from its beginning', async () => {
    const topic = unused('later');
    const reader = start({ topic, begin: 'latest', pace: { longestDelayMs: 100 } });
    await heard(reader, /not connected; it is tried again: the topic is not there/);
    await cluster.admin.createTopics({ topics: [topic], partitions: 1, replicas: 1 });
    await connected(reader);
    await cluster.send(topic, numbers(0, 5).map(alert));
    await judged(reader, numbers(0, 5));

    await cluster.admin.deleteTopics({ topics: [topic] });
    await heard(reader, /connection lost; it is opened again: the topic is not there/);
    await cluster.admin.createTopics({ topics: [topic], partitions: 1, replicas: 1 });
    await cluster.send(topic, numbers(5, 8).map(alert));
    await judged(reader, numbers(0, 8));
  });

  test('whose oldest messages are deleted before they were read', async () => {
    const [topic, group] = [await cluster.topic(), unused('group')];
    await cluster.send(topic, numbers(0, 10).map(alert));
    const first = start({ topic, group });
    await judged(first, numbers(0, 10));
    await first.source.close();
    await cluster.send(topic, numbers(10, 20).map(alert));
    await cluster.admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 15n }] }] });
    const second = start({ topic, group });
    await judged(second, numbers(15, 20));
    expect(second.said).toContainEqual({
      level: 'warn',
      message: expect.stringMatching(/^what was to be read next is gone/),
      details: expect.objectContaining({ from: 10, to: 15 }),
    });
    await expect.poll(() => cluster.committed(group, topic), soon).toEqual([20]);
  });
});

describe('several members', () => {
  test('of one group share the partitions under load; the others take over what a dead one had', async () => {
    const [topic, group] = [await cluster.topic(4), unused('group')];
    const one = start({ topic, group });
    const both = () => new Set([...one.judged, ...two.judged]);
    const sent: string[] = [];
    const send = async (count: number): Promise<void> => {
      const rules = numbers(sent.length, sent.length + count);
      sent.push(...rules);
      await cluster.send(topic, rules.map(alert));
    };
    await send(200);
    const two = start({ topic, group });
    for (let n = 0; n < 20; n++) await send(50);
    await expect.poll(both, soon).toEqual(new Set(sent));
    await expect
      .poll(() => two.said.findLast(({ message }) => message === 'partitions')?.details.partitions, soon)
      .toHaveLength(2);
    const before = two.judged.length;
    await send(400);
    await expect.poll(both, soon).toEqual(new Set(sent));
    expect(two.judged.length).toBeGreaterThan(before);

    await one.source.abandon();
    await send(100);
    await expect.poll(both, soon).toEqual(new Set(sent));
    // What one had read and not committed when it died came again; not everything did.
    expect(one.judged.length + two.judged.length).toBeLessThan(2 * sent.length);
    await two.source.close();
    expect(await committed(group, topic)).toBe(await cluster.written(topic));
  });

  test('of two groups get everything, each', async () => {
    const topic = await cluster.topic(2);
    const [one, two] = [start({ topic }), start({ topic })];
    await cluster.send(topic, numbers(0, 20).map(alert));
    await judged(one, numbers(0, 20));
    await judged(two, numbers(0, 20));
  });
});

describe('what breaks', () => {
  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'the broker ends by %s and comes back: nothing is lost',
    async (signal) => {
      const [topic, group] = [await cluster.topic(2), unused('group')];
      const reader = start({ topic, group });
      await cluster.send(topic, numbers(0, 50).map(alert));
      await judged(reader, numbers(0, 50));
      await cluster.broker.kill(signal);
      await heard(reader, /connection lost; it is opened again/);
      await heard(reader, /not connected; it is tried again: nobody listens there/);
      cluster.broker.start();
      await cluster.send(topic, numbers(50, 60).map(alert));
      await judged(reader, numbers(0, 60));
      await reader.source.close();
      expect(await committed(group, topic)).toBe(await cluster.written(topic));
      // Each cause is said, not each attempt.
      expect(reader.said.filter(({ level }) => level === 'warn').length).toBeLessThanOrEqual(10);
    },
  );

  test('the reader is killed with -9, whenever: nothing is lost', async () => {
    const [topic, group] = [await cluster.topic(2), unused('group')];
    const stateDir = mkdtempSync(join(cluster.directory, 'killed-'));
    const out = join(stateDir, 'out');
    writeFileSync(out, '');
    const script = join(import.meta.dirname, 'fixtures', 'read.ts');
    const child = (): ChildProcess => {
      const argv = [script, `${cluster.broker.ports.plain}`, topic, group, stateDir, out];
      const started = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'ignore'] });
      children.push(started);
      return started;
    };
    let written = 0;
    let running = child();
    for (let n = 0; n < 3; n++) {
      await cluster.send(topic, numbers(written, written + 500).map(alert));
      written += 500;
      // Between decision and commit.
      await once(running.stdout ?? running, 'data');
      running.kill('SIGKILL');
      await once(running, 'close');
      running = child();
    }
    await expect
      .poll(() => new Set(readFileSync(out, 'utf8').split('\n').slice(0, -1)), soon)
      .toEqual(new Set(numbers(0, written)));
    running.kill('SIGTERM');
    await once(running, 'close');
    expect(running.exitCode).toBe(0);
    expect(await committed(group, topic)).toBe(written);
  });

  test('who judges slowly is not run over: the rest stays with the broker', async () => {
    const topic = await cluster.topic();
    await cluster.send(
      topic,
      Array.from({ length: 300 }, (_, n) => JSON.stringify({ rule: `${n}`, output: 'x'.repeat(60_000) })),
    );
    let isOpen = false;
    let open: () => void = () => undefined;
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    const pushed: number[] = [];
    const intake: Reading['intake'] = {
      register: (properties) => ({ remote: false, fleetHosts: new Set(), ...properties }) as never,
      countBad: () => undefined,
      hasRoom: () => isOpen,
      room: () => opened,
      push: (text) => {
        pushed.push(text.length);
        return 'queued';
      },
    };
    const reader = start({ topic, intake });
    await connected(reader);
    await expect.poll(() => reader.source.counts().lag, soon).toBe(300);
    expect(pushed).toEqual([]);
    isOpen = true;
    open();
    await expect.poll(() => pushed.length, soon).toBe(300);
    expect(reader.source.counts().lag).toBe(0);
  });

  test('a stop takes what is queued and no more', async () => {
    const [topic, group] = [await cluster.topic(), unused('group')];
    await cluster.send(topic, numbers(0, 5_000).map(alert));
    const reader = start({ topic, group });
    await expect.poll(() => reader.judged.length, soon).toBeGreaterThan(0);
    await reader.source.stop();
    await reader.intake.idle();
    const { length } = reader.judged;
    await cluster.send(topic, [alert('late')]);
    await reader.source.close();
    expect(reader.judged).toHaveLength(length);
    expect(await cluster.committed(group, topic)).toEqual([length]);
  });

  test.each<[string, (socket: Socket) => unknown]>([
    ['nothing', () => undefined],
    ['a hang-up', (socket) => socket.destroy()],
    ['HTTP', (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['rubbish', (socket) => socket.write(Buffer.alloc(4_096, 0x7f))],
    ['a length without end', (socket) => socket.write(Buffer.from('7fffffff00000001', 'hex'))],
    ['zeros', (socket) => socket.write(Buffer.alloc(64))],
    [
      'an answer too short',
      (socket) =>
        socket.on('data', (sent) => socket.write(Buffer.concat([Buffer.from([0, 0, 0, 4]), sent.subarray(8, 12)]))),
    ],
  ])('what answers with %s is no broker, and is asked again', async (_name, answer) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      answer(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const reader = start({
        topic: 'falco',
        brokers: [{ host: '127.0.0.1', port }],
        pace: { connectMs: 300, rebalanceMs: 500, sessionMs: 500 },
      });
      await heard(reader, /not connected; it is tried again/);
      await expect.poll(() => reader.source.counts().failures, soon).toBeGreaterThan(1);
      expect(reader.said.length).toBeLessThanOrEqual(3);
      await reader.source.close();
    } finally {
      server.close();
    }
  });
});

test('the file of what is kept aside is for its group at most', async () => {
  const topic = await cluster.topic();
  await cluster.send(topic, ['x']);
  const reader = start({ topic });
  await heard(reader, /kept aside/);
  await expect.poll(() => reader.source.counts().aside, soon).toBe(1);
  const path = String(reader.said.find(({ details }) => 'path' in details)?.details.path);
  expect(lstatSync(path).mode & 0o777).toBe(0o640);
});
