/**
 * A policy says what may be done with the offender of a rule's alerts. Naming an offender and acting on it are two
 * things: most rules can name one, few should act.
 */
import { isTestRule, testRule } from '../../alert/test-rule.ts';

/** enforce = drop; monitor = count in the kernel; observe = say it, set nothing. */
export type Action = 'enforce' | 'monitor' | 'observe';

/** What is known about one alert's connection, for a policy's conditions. */
export interface Sighting {
  /** Which side opened the connection: outbound = ours did; null = not known. */
  readonly way: 'inbound' | 'outbound' | null;
  /** `fd.l4proto` in lower case; null = the alert does not print it. */
  readonly protocol: string | null;
  /** `evt.type`; null = the alert does not print it. */
  readonly event: string | null;
  /** True when the offender lies in no private range. */
  readonly public: boolean;
  /** False: all it proves is an attempt by whoever runs here, or it was read from text. Then observe at most. */
  readonly proven: boolean;
}

/** Every condition given must hold. */
export interface Condition {
  readonly way?: 'inbound' | 'outbound';
  readonly events?: readonly string[];
  readonly public?: boolean;
}

export interface PolicyCase {
  readonly when: Condition;
  readonly action: Action;
}

export interface Policy {
  readonly name: string;
  /** Names of Falco rules; letter case does not count. */
  readonly rules: readonly string[];
  /** True: its alerts are ignored, whatever they show. */
  readonly never: boolean;
  /** The first whose conditions hold decides; none: observe. */
  readonly cases: readonly PolicyCase[];
  /** True: offenders of outbound connections are acted on too, although whoever runs here chooses them. */
  readonly outbound: boolean;
  readonly seconds: number;
}

/**
 * Of no list: nothing that is configured makes more of a test alert than a claim that counts, for seconds. The judge takes it
 * for documentation addresses alone.
 */
export const testPolicy: Policy = {
  name: 'test-alert',
  rules: [testRule],
  never: false,
  cases: [{ when: { way: 'inbound', events: ['accept4'] }, action: 'monitor' }],
  outbound: false,
  // Withdrawn before by who sent it; without him it ends by itself.
  seconds: 10,
};

/** The first policy that names the rule, or null; a test alert's is its own, whatever others say. */
export function policyFor(rule: string, policies: readonly Policy[]): Policy | null {
  if (isTestRule(rule)) return testPolicy;
  const name = rule.toLowerCase();
  return policies.find((policy) => policy.rules.some((candidate) => candidate.toLowerCase() === name)) ?? null;
}

/**
 * What a policy would do. Whatever it says, it only observes what proves too little: an attempt, a protocol whose source
 * can be forged (all but TCP), and, unless it says otherwise, the far end of a connection that was opened from here: who
 * runs code here can connect to your payment provider.
 */
export function actionOf(policy: Policy | null, sighting: Sighting): Action {
  if (policy === null || policy.never || !sighting.proven) return 'observe';
  if (sighting.protocol !== null && sighting.protocol !== 'tcp') return 'observe';
  if (sighting.way === 'outbound' && !policy.outbound) return 'observe';
  return policy.cases.find(({ when }) => holds(when, sighting))?.action ?? 'observe';
}

function holds(when: Condition, sighting: Sighting): boolean {
  return (
    (when.way === undefined || when.way === sighting.way) &&
    (when.events === undefined || (sighting.event !== null && when.events.includes(sighting.event))) &&
    (when.public === undefined || when.public === sighting.public)
  );
}
