/** What the queue is told of an alert before it is judged, so that it knows what to shed first. */
import type { Address } from '../address/address.ts';
import type { Blocklist } from '../blocklist/blocklist.ts';
import type { HostFacts } from '../judge/host-facts.ts';
import { glimpse, type JudgeState, type Rules, whoseAlert } from '../judge/judge.ts';
import type { Glance } from '../sources/intake.ts';

export interface GlanceOptions {
  readonly facts: () => HostFacts;
  readonly rules: Rules;
  readonly state: JudgeState;
  readonly blocklist: Pick<Blocklist, 'holds'>;
}

/** An error of ours (or of the map's) makes an alert look like any other: it is met again, and said, when it is judged. */
export function openGlance({ facts, rules, state, blocklist }: GlanceOptions): Glance {
  return {
    isOurs: (alert, source) => {
      try {
        return whoseAlert(alert, facts(), source) !== 'other';
      } catch {
        return true;
      }
    },
    accuse: (alert, source) => {
      try {
        const { offender, applied } = glimpse(alert, facts(), rules, state, source);
        if (offender === null) return null;
        return {
          offender: nameOf(offender),
          acts: applied === state.automatic,
          isBlocked: blocklist.holds(offender, state.automatic),
        };
      } catch {
        return null;
      }
    },
  };
}

/** A quarter of the cost of the text that people read. */
function nameOf({ bytes }: Address): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}
