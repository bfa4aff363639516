import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../../src/address/address.ts';
import { hostPrefix, parsePrefix } from '../../src/address/prefix.ts';
import { type Alert, decodeAlert, parseAlert } from '../../src/alert/alert.ts';
import { testRule } from '../../src/alert/test-rule.ts';
import { guard } from '../../src/judge/guard/guard.ts';
import type { HostFacts } from '../../src/judge/host-facts.ts';
import { type Decision, defaultRules, futureToleranceSeconds, judge, type Rules } from '../../src/judge/judge.ts';
import { isOurs } from '../../src/judge/offender/direction.ts';
import { type Reason, reasons } from '../../src/judge/reason.ts';
import { alertTimeMs, alertWith, bareHost, edge, setOf } from './host.ts';

const watching = { automatic: 'monitor' } as const;
const armed = { automatic: 'enforce' } as const;

const canary = (more: Readonly<Record<string, unknown>> = {}, alert: Partial<Alert> = {}): Alert =>
  alertWith(
    {
      'evt.type': 'accept4',
      'fd.name': '203.0.113.66:40000->203.0.113.10:2222',
      'fd.type': 'ipv4',
      'fd.l4proto': 'tcp',
      ...more,
    },
    { rule: 'Connection to Canary Port', ...alert },
  );

const from = (address: string): Alert => canary({ 'fd.name': `${address}:40000->203.0.113.10:2222` });

const decide = (alert: Alert, host: HostFacts = edge, rules: Rules = defaultRules): Decision =>
  judge(alert, host, rules, watching, alertTimeMs + 1000);

describe('a block', () => {
  test('names offender, policy, action and time', () => {
    const decision = judge(canary(), edge, defaultRules, armed, alertTimeMs);
    expect(decision.offender === null ? null : formatAddress(decision.offender)).toBe('203.0.113.66');
    expect(decision).toMatchObject({
      rule: 'Connection to Canary Port',
      verdict: 'block',
      reason: 'offender',
      detail: '203.0.113.66 is the client that a connection to here came from (accept4)',
      policy: 'canary-port',
      action: 'enforce',
      applied: 'enforce',
      seconds: 3600,
    });
  });

  test("what is applied is capped until it is armed; the policy's own action stays", () => {
    expect(judge(canary(), edge, defaultRules, watching, alertTimeMs)).toMatchObject({
      action: 'enforce',
      applied: 'monitor',
    });
    const ssh = { ...canary(), rule: 'Inbound SSH Connection' };
    expect(judge(ssh, edge, defaultRules, armed, alertTimeMs)).toMatchObject({ action: 'monitor', applied: 'monitor' });
    const unknown = { ...canary(), rule: 'unknown' };
    expect(judge(unknown, edge, defaultRules, armed, alertTimeMs)).toMatchObject({
      verdict: 'block',
      policy: null,
      action: 'observe',
      applied: 'observe',
    });
  });

  test('read from text, or an attempt: observed at most', () => {
    const text = { ...canary(), fields: null, output: 'Notice X | connection=203.0.113.66:4->203.0.113.10:2222' };
    expect(decide(text)).toMatchObject({ verdict: 'block', action: 'observe' });
    const c2 = { 'evt.type': 'connect', 'fd.name': '203.0.113.10:40000->198.18.0.66:443' };
    const rule = 'Outbound Connection to C2 Servers';
    expect(decide(canary(c2, { rule }))).toMatchObject({ verdict: 'block', action: 'enforce' });
    expect(decide(canary({ ...c2, 'evt.res': 'EINPROGRESS' }, { rule }))).toMatchObject({ action: 'observe' });
  });

  test('a private offender where private ranges are allowed', () => {
    const rules = { ...defaultRules, guard: { ...defaultRules.guard, allowPrivate: true } };
    expect(decide(from('10.1.2.3'), edge, rules)).toMatchObject({ verdict: 'block', action: 'enforce' });
    expect(decide(from('10.9.0.53'), edge, rules)).toMatchObject({ verdict: 'refuse', reason: 'resolver' });
  });
});

test('only a block has policy, action and time; every decision has a sentence', () => {
  const alerts = [canary(), from('10.1.2.3'), canary({ 'evt.type': 'listen' }), canary({}, { hostname: 'edge-2' })];
  for (const decision of alerts.map((alert) => decide(alert))) {
    expect(decision.detail).toMatch(/^\S.*\w/);
    expect(decision.verdict).toBe(reasons[decision.reason].verdict);
    const isBlock = decision.verdict === 'block';
    for (const member of ['action', 'applied', 'seconds', 'policy'] as const)
      expect(decision[member] !== null).toBe(isBlock);
  }
});

describe('every reason can be reached', () => {
  const rulesWith = (guard: Partial<Rules['guard']>): Rules => ({
    ...defaultRules,
    guard: { ...defaultRules.guard, ...guard },
  });
  const reached: Readonly<Record<Exclude<Reason, 'too_wide'>, readonly [Alert, Rules?, HostFacts?]>> = {
    offender: [canary()],
    own_address: [from('203.0.113.10')],
    ssh_session: [from('192.0.2.200')],
    gateway: [from('203.0.113.1')],
    resolver: [from('9.9.9.9')],
    protected: [from('198.51.100.7'), rulesWith({ protected: setOf('198.51.100.0/24') })],
    never_block: [from('224.0.0.1')],
    private: [from('192.168.1.1')],
    test_address: [canary({ 'fd.name': '198.18.0.66:4->203.0.113.10:2222' }, { rule: testRule })],
    port_zero: [canary({ 'evt.type': 'connect', 'fd.name': '203.0.113.10:40000->198.18.0.66:0', 'fd.l4proto': 'udp' })],
    ambiguous: [canary({ 'evt.type': 'dup2', 'fd.name': '198.18.0.1:1->198.18.0.2:2' })],
    other_host: [canary({}, { hostname: 'edge-2' })],
    stale: [canary({}, { timeNs: BigInt(alertTimeMs - 300_000) * 1_000_000n })],
    future: [canary({}, { timeNs: BigInt(alertTimeMs + 302_000) * 1_000_000n })],
    undated: [canary({}, { timeNs: null })],
    rule_never: [canary({}, { rule: 'Contact K8S API Server From Container' })],
    not_network: [canary({ 'evt.type': 'execve', 'fd.name': null, 'fd.type': null }, { tags: [] })],
    no_tuple: [canary({ 'fd.name': null })],
    listening: [canary({ 'evt.type': 'listen' })],
    unix_socket: [canary({ 'fd.type': 'unix' })],
    plugin_source: [canary({}, { source: 'k8s_audit' })],
  };

  test.each(Object.entries(reached))('%s', (reason, [alert, rules, host]) => {
    expect(decide(alert, host, rules).reason).toBe(reason);
  });

  test('too_wide only by a hand: an offender is one address', () => {
    expect(guard(parsePrefix('16.0.0.0/7'), bareHost, defaultRules.guard, null)?.reason).toBe('too_wide');
    expect(Object.keys(reached).concat('too_wide').sort()).toEqual(Object.keys(reasons).sort());
  });
});

describe('whose host', () => {
  test.each<[string | null, Alert['origin'], boolean]>([
    ['edge-1', 'network', true],
    ['EDGE-1', 'network', true],
    ['edge-1.example.org', 'network', true],
    // Falco in a container reports the container's id
    ['8c1f3a2b9d4e', 'network', true],
    ['edge-2', 'network', false],
    ['edge-2', 'local', false],
    ['edge-1.example.com', 'local', false],
    // Falco 0.31 names no host
    [null, 'local', true],
    [null, 'network', false],
  ])('%j over %s', (hostname, origin, ours) => {
    const decision = decide(canary({}, { hostname, origin }));
    expect(decision.reason).toBe(ours ? 'offender' : 'other_host');
    expect(decision.offender !== null).toBe(ours);
  });

  test('every hostname is ours where no names are given', () => {
    expect(decide(canary({}, { hostname: 'edge-2', origin: 'network' }), { ...edge, names: null }).reason).toBe(
      'offender',
    );
    expect(decide(canary({}, { hostname: null, origin: 'network' }), { ...edge, names: null }).reason).toBe('offender');
  });

  test('what names nobody anyway is ignored whoever sent it', () => {
    expect(decide(canary({ 'evt.type': 'listen' }, { hostname: 'edge-2' })).verdict).toBe('ignore');
    const never = { rule: 'Contact K8S API Server From Container', hostname: 'edge-2' };
    expect(decide(canary({}, never))).toMatchObject({ verdict: 'ignore', offender: null });
  });
});

describe('age', () => {
  const at = (ageMs: number, maxAlertAgeSeconds = 300): Reason =>
    judge(canary(), edge, { ...defaultRules, maxAlertAgeSeconds }, watching, alertTimeMs + ageMs).reason;

  test.each([
    [0, 'offender'],
    [300_000, 'offender'],
    [300_001, 'stale'],
    [86_400_000, 'stale'],
    [-futureToleranceSeconds * 1000, 'offender'],
    [-futureToleranceSeconds * 1000 - 1, 'future'],
  ])('%i ms: %s', (ageMs, reason) => {
    expect(at(ageMs)).toBe(reason);
  });

  test('0: the time is not looked at', () => {
    expect(at(1e12, 0)).toBe('offender');
    expect(at(-1e12, 0)).toBe('offender');
    expect(decide(canary({}, { timeNs: null }), edge, { ...defaultRules, maxAlertAgeSeconds: 0 }).reason).toBe(
      'offender',
    );
  });

  test('the offender of an old alert is named all the same', () => {
    const { offender } = judge(canary(), edge, defaultRules, watching, alertTimeMs + 1e9);
    expect(offender === null ? null : formatAddress(offender)).toBe('203.0.113.66');
  });

  test('absurd times', () => {
    const far = decodeAlert({ rule: 'r', time: '9999-12-31T23:59:59.999999999Z' }, 'local');
    expect('problem' in far ? far : far.timeNs).toBe(253_402_300_799_999_999_999n);
    expect(decide(canary({}, { timeNs: 253_402_300_799_999_999_999n })).reason).toBe('future');
    expect(decide(canary({}, { timeNs: -(2n ** 80n) })).reason).toBe('stale');
  });
});

describe('hostile alerts', () => {
  const address = fc.oneof(
    fc.constantFrom(
      '203.0.113.10',
      '203.0.113.1',
      '9.9.9.9',
      '192.0.2.200',
      '172.17.0.2',
      '127.0.0.1',
      '0.0.0.0',
      '10.1.1.1',
    ),
    fc.constantFrom(
      '2001:db8:1::10',
      'fe80::1',
      'fd00:17::5',
      '::1',
      '::',
      '::ffff:203.0.113.1',
      '64:ff9b::909:909',
      'ff02::1',
    ),
    fc.ipV4(),
    fc.ipV6(),
  );
  const port = fc.oneof(fc.nat(65_535), fc.constantFrom(0, '0', '443', '<NA>', null, -1, 1e9, 'x'));
  const name = fc.oneof(
    fc.tuple(address, fc.nat(65_535), address, fc.nat(65_535)).map(([a, b, c, d]) => `${a}:${b}->${c}:${d}`),
    fc.tuple(address, address).map(([a, b]) => `${a}->${b}`),
    fc.string(),
  );
  const rubbish = fc.jsonValue({ maxDepth: 2 });
  const fields = fc.record(
    {
      'evt.type': fc.oneof(
        fc.constantFrom('connect', 'accept4', 'sendto', 'recvfrom', 'dup2', 'close', '<NA>', 'listen'),
        rubbish,
      ),
      'evt.res': fc.oneof(fc.constantFrom('SUCCESS', 'EINPROGRESS'), rubbish),
      'fd.type': fc.oneof(fc.constantFrom('ipv4', 'ipv6', 'unix', '<NA>'), rubbish),
      'fd.l4proto': fc.oneof(fc.constantFrom('tcp', 'udp', 'icmp', '<NA>'), rubbish),
      'fd.name': fc.oneof(name, name, name, rubbish),
      'fd.cip': fc.oneof(address, fc.constant(null), rubbish),
      'fd.sip': fc.oneof(address, fc.constant(null), rubbish),
      'fd.cport': port,
      'fd.sport': port,
      'fd.rip': address,
      'proc.cmdline': name,
    },
    { requiredKeys: [] },
  );
  const ruleName = fc.oneof(
    fc.constantFrom(
      'Connection to Canary Port',
      'Unexpected inbound connection source',
      'Outbound Connection to C2 Servers',
    ),
    fc.string({ minLength: 1 }),
  );
  const alerts = fc.record(
    {
      rule: ruleName,
      output_fields: fields,
      source: fc.constantFrom('syscall', 'syscalls', ''),
      tags: rubbish,
      output: name,
    },
    { requiredKeys: ['rule'] },
  );

  test('never name for a block what is ours or protected', () => {
    let blocks = 0;
    fc.assert(
      fc.property(alerts, (value) => {
        const alert = parseAlert(JSON.stringify(value), 'local');
        if ('problem' in alert) return;
        const rules = { ...defaultRules, maxAlertAgeSeconds: 0 };
        const decision = judge(alert, edge, rules, armed, alertTimeMs);
        if (decision.verdict !== 'block') return;
        blocks++;
        expect(decision.offender).not.toBeNull();
        if (decision.offender === null) return;
        expect(isOurs(decision.offender, edge)).toBe(false);
        expect(guard(hostPrefix(decision.offender), edge, rules.guard, null)).toBeNull();
        // and only an address that stands in a field that Falco fills from the socket
        const alone = {
          ...alert,
          fields: Object.fromEntries(
            Object.entries(alert.fields ?? {}).filter(([key]) => key !== 'proc.cmdline' && key !== 'fd.rip'),
          ),
        };
        if (alert.fields !== null) {
          expect(judge({ ...alone, output: '' }, edge, rules, armed, alertTimeMs)).toEqual(decision);
        }
      }),
      { numRuns: 4000 },
    );
    expect(blocks).toBeGreaterThan(100);
  });

  test('arbitrary JSON never throws', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), fc.jsonValue({ maxDepth: 3 }), (fieldsOrNot, rest) => {
        const value = { ...(typeof rest === 'object' ? rest : {}), rule: 'r', output_fields: fieldsOrNot };
        const alert = decodeAlert(value, 'network');
        if ('problem' in alert) return;
        expect(Object.keys(reasons)).toContain(decide(alert).reason);
      }),
      { numRuns: 1000 },
    );
  });

  test('an address in a command line or in the output of an alert with fields names nobody', () => {
    const inText = '198.18.0.66:4444->203.0.113.10:22';
    const alert = canary(
      { 'fd.name': null, 'proc.cmdline': `x | connection=${inText}`, 'proc.name': inText },
      { output: `Notice X | connection=${inText}` },
    );
    expect(decide(alert)).toMatchObject({ verdict: 'ignore', reason: 'no_tuple', offender: null });
  });

  test('what a sender wrote does not reach the sentence', () => {
    const event = '\u001b]0;evil\u0007';
    const decision = decide(canary({ 'evt.type': event }, { rule: `\u001b[2J`, hostname: 'edge-1' }));
    expect(decision.verdict).toBe('block');
    expect(decision.detail).toMatch(/^[\x20-\x7e]+$/);
  });
});
