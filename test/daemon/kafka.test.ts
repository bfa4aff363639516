/** A topic wired to the daemon, without a broker: what is said, and that nothing waits for it. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withSources } from '../../src/cli/run.ts';
import { parseConfig } from '../../src/config/load.ts';
import { runDaemon } from '../../src/daemon/daemon.ts';
import { makeCertificates } from '../sources/grpc/certificates.ts';
import { blocklistDouble, canary, logDouble } from './double.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fd-daemon-kafka-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

function start(yaml: string) {
  const log = logDouble();
  const stop = new AbortController();
  const running = runDaemon({
    config: parseConfig(`http: { enabled: false }\n${yaml}`, 'test'),
    pinDir: directory,
    stateDir: directory,
    signal: stop.signal,
    open: () => blocklistDouble(() => 'blocked'),
    log,
  });
  return { log, running, stop: () => stop.abort() };
}

// Nobody listens at port 1 of loopback.
const nobody = 'brokers: ["127.0.0.1:1"], topic: falco';
const notYet = 'not connected; it is tried again';

describe('a topic of Kafka', () => {
  test('a broker that is not there keeps nothing from starting, from other alerts, or from stopping', async () => {
    const file = join(directory, 'alerts.jsonl');
    writeFileSync(file, `${canary('198.51.100.7')}\n`);
    const { log, running, stop } = start(`files: [{ path: ${file}, follow: false }]\nkafka: [{ ${nobody} }]`);
    await log.waitFor('decision');
    expect(await log.waitFor(notYet)).toMatchObject({
      level: 'warn',
      source: 'kafka:kafka',
      problem: 'nobody listens there (127.0.0.1:1)',
    });
    stop();
    await running;
    expect(log.of('no source of alerts is enabled')).toEqual([]);
    expect(log.of('stopped')[0]).toMatchObject({
      sources: { 'kafka:kafka': { received: 0 } },
      kafka: { 'kafka:kafka': { aside: 0, unreadable: 0, lag: 0 } },
    });
    expect(log.of('stopped before all was done')).toEqual([]);
  });

  test('a password that goes in clear text is said; one that everybody may read is not used; SIGHUP reads it again', async () => {
    const file = join(directory, 'password');
    writeFileSync(file, 'hunter2');
    chmodSync(file, 0o644);
    const sasl = `sasl: { mechanism: plain, username: x, password: { file: ${file} } }`;
    const { log, running, stop } = start(`kafka: [{ name: fleet, ${nobody}, ${sasl} }]`);
    expect(await log.waitFor('the password goes to the brokers in clear text: kafka.tls')).toMatchObject({
      source: 'kafka:fleet',
    });
    expect(await log.waitFor(notYet)).toMatchObject({ problem: expect.stringContaining('everybody may read') });
    process.emit('SIGHUP');
    expect(await log.waitFor('the former secrets and certificates go on')).toMatchObject({ source: 'kafka:fleet' });
    chmodSync(file, 0o600);
    process.emit('SIGHUP');
    while (!log.of(notYet).some(({ problem }) => String(problem).startsWith('nobody listens'))) {
      await new Promise(setImmediate);
    }
    stop();
    await running;
    expect(log.texts.join('')).not.toContain('hunter2');
  });

  test.each<[string, (made: ReturnType<typeof makeCertificates>) => string, RegExp]>([
    [
      'a CA that is no certificate',
      ({ client }) => `ca: { file: ${client.keyFile} }`,
      /client\.key: there is no certificate in it/,
    ],
    ['a CA that is not there', () => `ca: { file: ${directory}/none }`, /there is no such file/],
    [
      "another certificate's key",
      ({ client, strangeClient }) => `cert: { file: ${client.certFile} }, key: { file: ${strangeClient.keyFile} }`,
      /it is not the key of kafka\.tls\.cert/,
    ],
  ])('%s: said, and tried again', async (_name, tls, problem) => {
    const { log, running, stop } = start(`kafka: [{ ${nobody}, tls: { ${tls(makeCertificates(directory))} } }]`);
    expect(await log.waitFor(notYet)).toMatchObject({ problem: expect.stringMatching(problem) });
    stop();
    await running;
  });

  test('switched off: no source at all', async () => {
    const { log, running, stop } = start(`kafka: [{ ${nobody}, enabled: false }]`);
    await log.waitFor('no source of alerts is enabled');
    stop();
    await running;
  });

  test('sources that were typed are all there are', () => {
    const configured = parseConfig(`kafka: [{ ${nobody} }]`, 'test');
    expect(withSources({ options: { stdin: true } }, configured).kafka).toEqual([]);
    expect(withSources({ options: {} }, configured).kafka).toHaveLength(1);
  });
});
