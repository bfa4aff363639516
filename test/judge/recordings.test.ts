/** Every line of the recordings against the offender that the traffic really had. */
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../../src/address/address.ts';
import { type Alert, decodeAlert, type NotAlert, parseAlert } from '../../src/alert/alert.ts';
import type { HostFacts } from '../../src/judge/host-facts.ts';
import { type Decision, defaultRules, judge } from '../../src/judge/judge.ts';
import type { Reason } from '../../src/judge/reason.ts';
import { bodies, type Expected, grpcMessages, ownAddresses, recording, recordings } from '../alert/recordings.ts';
import { bareHost, setOf } from './host.ts';

const host: HostFacts = { ...bareHost, own: setOf(...ownAddresses) };

function decide(alert: Alert | NotAlert): Decision {
  if ('problem' in alert) throw new Error(alert.problem);
  const nowMs = Number((alert.timeNs ?? 0n) / 1_000_000n);
  return judge(alert, host, defaultRules, { automatic: 'monitor' }, nowMs);
}

const offenderOf = ({ verdict, offender }: Decision): string | null =>
  verdict === 'block' && offender !== null ? formatAddress(offender) : null;

/** Which reasons of ours say what the recordings' "why" says. */
const reasonsFor: Readonly<Record<Expected['why'], readonly Reason[]>> = {
  offender: ['offender'],
  'never block': ['own_address', 'never_block', 'rule_never'],
  private: ['private'],
  'not a connection': ['not_network', 'listening', 'no_tuple'],
};

describe.each(recordings)('%s', (name) => {
  const { lines, expected } = recording(name);

  test('each line has an expectation', () => {
    expect(lines.length).toBeGreaterThan(100);
    expect(expected.map(({ n }) => n)).toEqual(lines.map((_, n) => n));
  });

  test.each(expected.map((line) => [line.n, line.rule, line.evt, line.fd, line] as const))(
    '%i: %s %s %s',
    (n, _rule, _event, _fd, { rule, offender, why }) => {
      const decision = decide(parseAlert(lines[n] ?? '', 'local'));
      expect(decision.rule).toBe(rule);
      expect(offenderOf(decision)).toBe(offender);
      expect(reasonsFor[why]).toContain(decision.reason);
    },
  );
});

test('gRPC: the message is decided as its JSON line is', () => {
  let blocks = 0;
  for (const message of grpcMessages()) {
    const grpc = decide(decodeAlert(message, 'local'));
    expect(grpc).toEqual(decide(parseAlert(message.output, 'local')));
    if (grpc.verdict === 'block') blocks++;
  }
  expect(blocks).toBeGreaterThan(20);
});

describe.each(['http-0.43', 'sidekick-2.34'] as const)('%s', (name) => {
  test('each request is decided as the recorded line of the same alert', () => {
    const identity = (alert: Alert): string => `${alert.timeNs} ${alert.rule} ${String(alert.fields?.['fd.name'])}`;
    const recorded = new Map(
      recordings
        .flatMap((of) => recording(of).lines)
        .map(parsed)
        .map((a) => [identity(a), a]),
    );
    const alerts = bodies(name).map(parsed);
    expect(alerts.length).toBeGreaterThan(15);
    for (const alert of alerts) {
      const line = recorded.get(identity(alert));
      expect(line).toBeDefined();
      if (line !== undefined) expect(decide(alert)).toEqual(decide(line));
    }
  });
});

function parsed(text: string): Alert {
  const alert = parseAlert(text, 'local');
  if ('problem' in alert) throw new Error(alert.problem);
  return alert;
}
