import { describe, expect, test } from 'vitest';
import { decodeAlert } from '../../src/alert/alert.ts';
import { sourceOf } from '../../src/alert/source.ts';
import type { Client } from '../../src/daemon/socket.ts';
import { openWitness, type Witness } from '../../src/daemon/witness.ts';
import { FalcodropError } from '../../src/errors.ts';
import { defaultRules, judge } from '../../src/judge/judge.ts';
import type { Arrival } from '../../src/sources/intake.ts';
import { bareHost } from '../judge/host.ts';
import { canary } from './double.ts';

function client(): Client & { readonly lines: object[]; readonly ended: Promise<void>; goes(): void } {
  const lines: object[] = [];
  let end: () => void = () => undefined;
  let goes: () => void = () => undefined;
  return {
    lines,
    ended: new Promise((resolve) => {
      end = resolve;
    }),
    send: (line) => {
      lines.push(line);
      return true;
    },
    end: () => end(),
    onClose: (step) => {
      goes = step;
    },
    goes: () => goes(),
  };
}

function arrivalOf(more: Record<string, unknown>): Arrival {
  const text = canary('203.0.113.66', more);
  const alert = decodeAlert(JSON.parse(text), 'local');
  if ('problem' in alert) throw new Error(alert.problem);
  return { alert, text, source: sourceOf('http\u202e'), receivedNs: process.hrtime.bigint() };
}

const decide = (witness: Witness, arrival: Arrival, outcome: 'blocked' | 'observed' | null): void => {
  const decision = judge(arrival.alert, bareHost, defaultRules, { automatic: 'monitor' }, Date.now());
  witness.decided(arrival, decision, outcome);
};

const open = (durable: () => Promise<boolean> = async () => true) => openWitness({ clock: { now: Date.now }, durable });

describe('who sent an alert to see what becomes of it', () => {
  test('is told of that one alone, once, and when it is durable', async () => {
    let make: (isDurable: boolean) => void = () => undefined;
    const durable = new Promise<boolean>((resolve) => {
      make = resolve;
    });
    const witness = open(() => durable);
    const [one, other] = [client(), client()];
    await witness.verb({ uuid: 'a' }, one);
    await witness.verb({ connection: '203.0.113.66:40000->203.0.113.10:2222' }, other);
    decide(witness, arrivalOf({ uuid: 'b', output_fields: undefined }), null);
    expect(one.lines).toEqual([{ ok: true }]);
    decide(witness, arrivalOf({ uuid: 'a' }), 'blocked');
    decide(witness, arrivalOf({ uuid: 'a' }), 'blocked');
    expect(one.lines).toHaveLength(3);
    make(true);
    await Promise.all([one.ended, other.ended]);
    expect(one.lines).toMatchObject([
      { ok: true },
      { received: { source: 'http\\u202e', at_ms: expect.any(Number) as number } },
      { decided: { verdict: 'block', reason: 'offender', offender: '203.0.113.66', outcome: 'blocked' } },
      { recorded: { durable: true } },
      { end: 'told' },
    ]);
    expect(other.lines).toHaveLength(4);
  });

  test('of its connection, also where the listener hears both families', async () => {
    const witness = open();
    const one = client();
    await witness.verb({ connection: '127.0.0.1:40000->127.0.0.1:2323' }, one);
    const named = (name: string): Arrival => {
      const arrival = arrivalOf({});
      return { ...arrival, alert: { ...arrival.alert, fields: { ...arrival.alert.fields, 'fd.name': name } } };
    };
    decide(witness, named('::ffff:127.0.0.1:40001->::ffff:127.0.0.1:2323'), null);
    expect(one.lines).toHaveLength(1);
    decide(witness, named('::ffff:127.0.0.1:40000->::ffff:127.0.0.1:2323'), null);
    await one.ended;
    expect(one.lines).toHaveLength(4);
  });

  test('of what leaves nothing there is nothing to record; who has gone is forgotten', async () => {
    const witness = open(() => Promise.reject(new Error('a bug')));
    const [one, gone, failing] = [client(), client(), client()];
    await witness.verb({ uuid: 'a' }, gone);
    gone.goes();
    await witness.verb({ uuid: 'a' }, one);
    decide(witness, arrivalOf({ uuid: 'a' }), 'observed');
    await one.ended;
    expect(one.lines.map((line) => Object.keys(line)[0])).toEqual(['ok', 'received', 'decided', 'end']);
    expect(gone.lines).toEqual([{ ok: true }]);
    await witness.verb({ uuid: 'b' }, failing);
    decide(witness, arrivalOf({ uuid: 'b' }), 'blocked');
    await failing.ended;
    expect(failing.lines).toHaveLength(3);
  });

  test.each([[{}], [{ uuid: '' }], [{ uuid: 7 }], [{ uuid: 'x'.repeat(201) }], [{ uuid: 'a', connection: 'b' }]])(
    '%j names no alert',
    (request) => {
      expect(() => open().verb(request, client())).toThrowError(FalcodropError);
    },
  );
});
