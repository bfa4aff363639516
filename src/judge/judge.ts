/** The one place where it is decided: `run` and `replay` ask the same function. No I/O, no clock but the one handed in. */
import { type Address, formatAddress } from '../address/address.ts';
import { hostPrefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import type { Alert } from '../alert/alert.ts';
import { formatDuration } from '../time/duration.ts';
import { defaultWidest, type GuardSettings, guard } from './guard/guard.ts';
import { isPrivate } from './guard/ranges.ts';
import type { HostFacts } from './host-facts.ts';
import { type Naming, nameOffender } from './offender/offender.ts';
import { builtinPolicies } from './policy/builtin.ts';
import { type Action, actionOf, type Policy, policyFor } from './policy/policy.ts';
import { type Reason, reasons, type Verdict } from './reason.ts';

export type { Action, Policy } from './policy/policy.ts';
export type { Reason, Verdict } from './reason.ts';

export interface Rules {
  readonly guard: GuardSettings;
  /** 0 = the alert's time is not looked at. */
  readonly maxAlertAgeSeconds: number;
  readonly policies: readonly Policy[];
}

/** What holds when nothing is configured. */
export const defaultRules: Rules = {
  guard: { allowPrivate: false, protected: prefixSet([]), widest: defaultWidest },
  maxAlertAgeSeconds: 300,
  policies: builtinPolicies,
};

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
  /** The address found, whatever the verdict; null when none was found or, for another host's alert, looked for. */
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

/**
 * How far ahead of our clock an alert may be dated, seconds: Falco and falcodrop read the same clock on one host, but a
 * clock that is stepped back leaves alerts from "the future" behind. What is dated further ahead would stay young for as
 * long as it likes, so it is refused.
 */
export const futureToleranceSeconds = 300;

/**
 * `block` = an offender is named and nothing speaks against it, whatever the action. `ignore` = nobody could be named:
 * no network alert, no pair of addresses, listening, a rule marked never. `refuse` = everything else.
 * `nowMs`: milliseconds since 1970; `replay` gives the alert's own time.
 */
export function judge(alert: Alert, host: HostFacts, rules: Rules, state: JudgeState, nowMs: number): Decision {
  const decide = (reason: Reason, detail: string, offender: Address | null): Decision => ({
    rule: alert.rule,
    verdict: reasons[reason].verdict,
    reason,
    detail,
    offender,
    policy: null,
    action: null,
    applied: null,
    seconds: null,
  });

  const naming = nameOffender(alert, host);
  if (naming.kind === 'nobody') return decide(naming.reason, naming.detail, null);
  // Another host's addresses mean nothing here: what looks like ours in them is not ours, so none is named.
  const isOurs = isOurAlert(alert, host);
  const found = isOurs ? addressOf(naming) : null;
  const policy = policyFor(alert.rule, rules.policies);
  if (policy?.never) return decide('rule_never', `policy ${policy.name} says that this rule names no offender`, found);
  if (!isOurs) {
    const whose = alert.hostname === null ? 'it names no host and came over the network' : 'it is of another host';
    return decide('other_host', whose, null);
  }
  const age = judgeAge(alert, rules.maxAlertAgeSeconds, nowMs);
  if (age !== null) return decide(age.reason, age.detail, found);
  if (naming.kind === 'ambiguous') return decide('ambiguous', naming.detail, null);
  if (naming.kind === 'own') return decide('own_address', naming.detail, found);

  const { address, port } = naming.offender;
  if (port === 0) return decide('port_zero', `${formatAddress(address)} port 0 is a connectivity probe`, address);
  const refusal = guard(hostPrefix(address), host, rules.guard, null);
  if (refusal !== null) return decide(refusal.reason, refusal.detail, address);

  const action = actionOf(policy, { ...naming, public: !isPrivate(address) });
  return {
    ...decide('offender', naming.detail, address),
    policy: policy?.name ?? null,
    action,
    applied: action === 'enforce' ? state.automatic : action,
    seconds: policy?.seconds ?? defaultSeconds,
  };
}

/** How long the offender of a rule without a policy would be remembered, seconds. */
const defaultSeconds = 3600;

function addressOf(naming: Naming): Address | null {
  if (naming.kind === 'offender') return naming.offender.address;
  return naming.kind === 'own' ? naming.address : null;
}

/** Falco before 0.33 names no host: such an alert is ours only where nobody else could have sent it. */
function isOurAlert(alert: Alert, host: HostFacts): boolean {
  if (host.names === null) return true;
  if (alert.hostname === null) return alert.origin === 'local';
  return host.names.has(alert.hostname) || host.names.has(alert.hostname.toLowerCase());
}

function judgeAge(
  alert: Alert,
  maxAgeSeconds: number,
  nowMs: number,
): { readonly reason: 'stale' | 'future' | 'undated'; readonly detail: string } | null {
  if (maxAgeSeconds === 0) return null;
  if (alert.timeNs === null) return { reason: 'undated', detail: 'it has no readable time, so its age is not known' };
  const ageSeconds = (nowMs - Number(alert.timeNs / 1_000_000n)) / 1000;
  if (ageSeconds > maxAgeSeconds) {
    const limit = formatDuration(maxAgeSeconds);
    return { reason: 'stale', detail: `it is ${formatDuration(ageSeconds)} old, and ${limit} is the limit` };
  }
  if (-ageSeconds > futureToleranceSeconds) {
    return { reason: 'future', detail: `it is dated ${formatDuration(-ageSeconds)} ahead of this host's clock` };
  }
  return null;
}
