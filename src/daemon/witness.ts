/**
 * Whoever sent an alert to see that the way works is told what becomes of it (`falcodrop test-alert`). He sees what the log says
 * of every alert, and changes nothing: what is done with it is decided as ever.
 */
import { formatAddress } from '../address/address.ts';
import { textField } from '../alert/fields.ts';
import { FalcodropError } from '../errors.ts';
import type { Decision } from '../judge/judge.ts';
import type { Arrival } from '../sources/intake.ts';
import type { Clock } from '../time/clock.ts';
import type { Outcome } from './alerts.ts';
import type { Client, SocketVerb } from './socket.ts';
import { cleanText } from './text.ts';

/** Which alert: by the `uuid` that its sender gave it, or, Falco's own having none, by its connection (`fd.name`). */
type Mark = { readonly uuid: string } | { readonly connection: string };

interface Waiting {
  readonly mark: Mark;
  readonly client: Client;
}

export interface WitnessOptions {
  readonly clock: Clock;
  /** Resolves to true when all that was decided is on the disk. */
  readonly durable: () => Promise<boolean>;
}

export interface Witness {
  /** With nobody waiting it costs nothing. */
  readonly decided: (arrival: Arrival, decision: Decision, outcome: Outcome) => void;
  readonly verb: SocketVerb;
}

const longest = { mark: 200, detail: 300, source: 4_200 };

/** Decisions after which there is an entry, now or as soon as the lock is free. */
const written: ReadonlySet<Outcome> = new Set(['blocked', 'extended', 'unchanged', 'replaced', 'queued'] as const);

export function openWitness({ clock, durable }: WitnessOptions): Witness {
  const waiting = new Set<Waiting>();

  const tell = async ({ client }: Waiting, arrival: Arrival, decision: Decision, outcome: Outcome): Promise<void> => {
    const atMs = clock.now();
    const waitedMs = Number(process.hrtime.bigint() - arrival.receivedNs) / 1e6;
    client.send({
      received: { at_ms: atMs - waitedMs, source: cleanText(arrival.source.name, longest.source) },
    });
    client.send({
      decided: {
        at_ms: atMs,
        verdict: decision.verdict,
        reason: decision.reason,
        detail: cleanText(decision.detail, longest.detail),
        offender: decision.offender === null ? null : formatAddress(decision.offender),
        applied: decision.applied,
        seconds: decision.seconds,
        policy: decision.policy,
        outcome,
      },
    });
    if (written.has(outcome)) {
      const isDurable = await durable();
      client.send({ recorded: { at_ms: clock.now(), durable: isDurable } });
    }
    client.send({ end: 'told' });
    client.end();
  };

  return {
    decided: (arrival, decision, outcome) => {
      if (waiting.size === 0) return;
      for (const one of waiting) {
        if (!isMarked(arrival, one.mark)) continue;
        waiting.delete(one);
        // A client that has gone is nobody's trouble, and what is not durable is said by who makes it so.
        tell(one, arrival, decision, outcome).catch(() => one.client.end());
      }
    },
    verb: (request, client) => {
      const one: Waiting = { mark: markOf(request), client };
      waiting.add(one);
      client.onClose(() => waiting.delete(one));
      client.send({ ok: true });
    },
  };
}

/** Before an IPv4 address: a listener that hears both families has such ends (RFC 4291 2.5.5.2). */
const mapped = /::ffff:(?=\d{1,3}\.)/gi;

function isMarked({ alert }: Arrival, mark: Mark): boolean {
  if ('uuid' in mark) return alert.uuid === mark.uuid;
  const name = textField(alert.fields, 'fd.name');
  return name !== null && name.length <= longest.mark && name.replaceAll(mapped, '') === mark.connection;
}

function markOf({ uuid, connection }: Readonly<Record<string, unknown>>): Mark {
  if (isMark(uuid) && connection === undefined) return { uuid };
  if (isMark(connection) && uuid === undefined) return { connection };
  throw new FalcodropError(
    'usage',
    'it is not said which alert is meant',
    '{"verb": "watch_alert", "uuid": "…"}, or "connection": "127.0.0.1:40000->127.0.0.1:2323"',
  );
}

function isMark(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= longest.mark;
}
