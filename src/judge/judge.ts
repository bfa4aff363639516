import type { Address } from '../address/address.ts';
import type { Alert } from '../alert/alert.ts';
import type { GuardSettings } from './guard/guard.ts';
import type { HostFacts } from './host-facts.ts';
import type { Action, Policy } from './policy/policy.ts';
import type { Reason, Verdict } from './reason.ts';

export type { Action, Policy } from './policy/policy.ts';
export type { Reason, Verdict } from './reason.ts';

export interface Rules {
  readonly guard: GuardSettings;
  /** 0 = the alert's time is not looked at. */
  readonly maxAlertAgeSeconds: number;
  readonly policies: readonly Policy[];
}

export interface JudgeState {
  /** What automatic blocks may do at most (it ships watching). */
  readonly automatic: 'monitor' | 'enforce';
}

export interface Decision {
  readonly rule: string;
  readonly verdict: Verdict;
  readonly reason: Reason;
  /** One sentence for people. */
  readonly detail: string;
  /** The address found, whatever the verdict. */
  readonly offender: Address | null;
  /** Name of the policy that decided; null = none names the rule. Only with block. */
  readonly policy: string | null;
  /** The policy's own, only with block. */
  readonly action: Action | null;
  /** After the cap of `state.automatic`; only with block. */
  readonly applied: Action | null;
  /** How long, only with block. */
  readonly seconds: number | null;
}

export function judge(_alert: Alert, _host: HostFacts, _rules: Rules, _state: JudgeState, _nowMs: number): Decision {
  throw new Error('to be written');
}
