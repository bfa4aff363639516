import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatBrokerAddress, parseBrokerAddress } from '../../src/config/broker-address.ts';
import { examineConfig, parseConfig } from '../../src/config/load.ts';
import { secretProblems } from '../../src/config/secret.ts';
import { FalcodropError } from '../../src/errors.ts';

function problem(text: string): string {
  try {
    parseConfig(text, 'f.yaml');
  } catch (error) {
    if (error instanceof FalcodropError) return error.message;
    throw error;
  }
  throw new Error('taken');
}

describe('an address of a broker', () => {
  test.each([
    ['kafka-1.example.org:9092', { host: 'kafka-1.example.org', port: 9092 }],
    ['192.0.2.10:1', { host: '192.0.2.10', port: 1 }],
    ['[2001:db8::10]:65535', { host: '2001:db8::10', port: 65_535 }],
  ])('%s', (text, address) => {
    expect(parseBrokerAddress(text)).toEqual(address);
    expect(formatBrokerAddress(address)).toBe(text);
  });

  test.each([
    '',
    'kafka',
    ':9092',
    'kafka:0',
    'kafka:65536',
    'kafka:9092,kafka:9093',
    'PLAINTEXT://kafka:9092',
    '2001:db8::10:9092',
    'a b:1',
    'x\0:1',
  ])('%j is none', (text) => {
    expect(() => parseBrokerAddress(text)).toThrowError(expect.objectContaining({ code: 'config_invalid' }));
  });
});

const least = 'brokers: ["h:1"], topic: falco';

describe('the setting', () => {
  test('none, the least, all of it', () => {
    expect(parseConfig('', 'f').kafka).toEqual([]);
    expect(parseConfig(`kafka: [{ ${least} }]`, 'f').kafka).toEqual([
      {
        name: 'kafka',
        enabled: true,
        brokers: [{ host: 'h', port: 1 }],
        topic: 'falco',
        group: null,
        begin: 'latest',
        tls: null,
        sasl: null,
        remote: false,
        fleetHosts: [],
      },
    ]);
    const all = `kafka:
  - name: fleet
    brokers: ["a:1", "b:2"]
    topic: falco.alerts
    group: falcodrop
    begin: earliest
    tls: { ca: { file: /ca }, cert: { file: /cert }, key: { credential: kafka.key } }
    sasl: { mechanism: scram-sha-512, username: falcodrop, password: { credential: kafka } }
    fleet_hosts: [web-2]
    enabled: false`;
    expect(parseConfig(all, 'f').kafka).toEqual([
      {
        name: 'fleet',
        enabled: false,
        brokers: [
          { host: 'a', port: 1 },
          { host: 'b', port: 2 },
        ],
        topic: 'falco.alerts',
        group: 'falcodrop',
        begin: 'earliest',
        tls: { ca: { file: '/ca' }, cert: { file: '/cert' }, key: { credential: 'kafka.key' } },
        sasl: { mechanism: 'scram-sha-512', username: 'falcodrop', password: { credential: 'kafka' } },
        remote: true,
        fleetHosts: ['web-2'],
      },
    ]);
    expect(parseConfig(`kafka: [{ ${least}, tls: {} }]`, 'f').kafka[0]?.tls).toEqual({
      ca: null,
      cert: null,
      key: null,
    });
  });

  test.each<[string, RegExp]>([
    ['kafka: true', /kafka: expected a list/],
    ['kafka: [{}]', /kafka\[0\]\.(brokers|topic): is missing/],
    ['kafka: [{ brokers: [], topic: x }]', /kafka\[0\]\.brokers/],
    ['kafka: [{ brokers: "h:1", topic: x }]', /kafka\[0\]\.brokers: expected a list/],
    ['kafka: [{ brokers: ["h"], topic: x }]', /kafka\[0\]\.brokers\[0\]: is not HOST:PORT/],
    ['kafka: [{ brokers: ["h:1", "h:1"], topic: x }]', /kafka\[0\]\.brokers: names a broker twice/],
    ['kafka: [{ brokers: ["h:1"] }]', /kafka\[0\]\.topic: is missing/],
    ['kafka: [{ brokers: ["h:1"], topic: "a b" }]', /kafka\[0\]\.topic: is no name of a topic/],
    ['kafka: [{ brokers: ["h:1"], topic: ".." }]', /kafka\[0\]\.topic: is no name of a topic/],
    [`kafka: [{ ${least}, group: "a b" }]`, /kafka\[0\]\.group: is no name of a group/],
    [`kafka: [{ ${least}, name: "a b" }]`, /kafka\[0\]\.name: is no name/],
    [`kafka: [{ ${least}, begin: now }]`, /kafka\[0\]\.begin: expected latest or earliest/],
    [`kafka: [{ ${least} }, { ${least} }]`, /kafka: gives a name twice/],
    [`kafka: [{ ${least}, tls: { cert: { file: /c } } }]`, /kafka\[0\]: tls names no key/],
    [`kafka: [{ ${least}, tls: { key: { file: /c } } }]`, /kafka\[0\]: tls names no certificate/],
    [`kafka: [{ ${least}, tls: { ca: /ca } }]`, /kafka\[0\]\.tls\.ca/],
    [`kafka: [{ ${least}, sasl: { username: x, password: { file: /p } } }]`, /kafka\[0\]\.sasl\.mechanism/],
    [
      `kafka: [{ ${least}, sasl: { mechanism: gssapi, username: x, password: { file: /p } } }]`,
      /kafka\[0\]\.sasl\.mechanism: expected plain or/,
    ],
    [
      `kafka: [{ ${least}, sasl: { mechanism: plain, username: x, password: hunter2 } }]`,
      /kafka\[0\]\.sasl\.password: a secret may not stand here/,
    ],
    [`kafka: [{ ${least}, partition: 1 }]`, /kafka\[0\]\.partition/],
  ])('%s', (text, wanted) => {
    expect(problem(text)).toMatch(wanted);
    expect(problem(text)).not.toContain('hunter2');
  });
});

describe('its secrets', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fd-kafka-'));
    writeFileSync(join(folder, 'good'), 'hunter2\n', { mode: 0o600 });
    writeFileSync(join(folder, 'open'), 'hunter2\n');
    chmodSync(join(folder, 'open'), 0o644);
    writeFileSync(join(folder, 'empty'), '', { mode: 0o600 });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each<[string, RegExp | null]>([
    ['good', null],
    ['open', /everybody may read/],
    ['empty', /there is no secret in it/],
    ['missing', /there is no such file/],
  ])('%s', (name, wanted) => {
    const file = join(folder, 'f.yaml');
    const password = `password: { file: ${join(folder, name)} }`;
    writeFileSync(file, `kafka: [{ ${least}, sasl: { mechanism: plain, username: x, ${password} } }]`);
    const said = secretProblems(examineConfig(file, {}).held, {}).map(({ message }) => message);
    expect(said).toEqual(wanted === null ? [] : [expect.stringMatching(wanted)]);
    for (const message of said) {
      expect(message).toMatch(/^kafka\[0\]\.sasl\.password: /);
      expect(message).not.toContain('hunter2');
    }
  });
});
