/** The one place where it is decided: `run` and `replay` ask the same function. No I/O, no clock but the one handed in. */
import { type Address, formatAddress } from '../address/address.ts';
import { hostPrefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import type { Alert } from '../alert/alert.ts';
import { type SourceRef, sourceOf } from '../alert/source.ts';
import { formatDuration } from '../time/duration.ts';
import { defaultWidest, type GuardSettings, guard } from './guard/guard.ts';
import { documentation, isPrivate } from './guard/ranges.ts';
import type { HostFacts } from './host-facts.ts';
import { type Naming, nameOffender } from './offender/offender.ts';
import { builtinPolicies } from './policy/builtin.ts';
import { type Action, actionOf, type Policy, policyFor, testPolicy } from './policy/policy.ts';
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

/** What may be said of other hosts, by the way the alert came in. */
export type Speaker = Pick<SourceRef, 'remote' | 'fleetHosts'>;

const forThisHost: Speaker = sourceOf('');

/**
 * `block` = an offender is named and nothing speaks against it, whatever the action. `ignore` = nobody could be named:
 * no network alert, no pair of addresses, listening, a rule marked never. `refuse` = everything else.
 * `nowMs`: milliseconds since 1970; `replay` gives the alert's own time.
 */
export function judge(
  alert: Alert,
  host: HostFacts,
  rules: Rules,
  state: JudgeState,
  nowMs: number,
  speaker: Speaker = forThisHost,
): Decision {
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

  const whose = whoseAlert(alert, host, speaker);
  const naming = nameFor(whose, alert, host);
  if (naming.kind === 'nobody') return decide(naming.reason, naming.detail, null);
  // Another host's addresses mean nothing here: what looks like ours in them is not ours, so none is named.
  const found = whose === 'other' ? null : addressOf(naming);
  const policy = policyFor(alert.rule, rules.policies);
  if (policy?.never) return decide('rule_never', `policy ${policy.name} says that this rule names no offender`, found);
  if (whose === 'other') return decide('other_host', whyOther(alert, speaker), null);
  const age = judgeAge(alert, rules.maxAlertAgeSeconds, nowMs);
  if (age !== null) return decide(age.reason, age.detail, found);
  if (naming.kind === 'ambiguous') return decide('ambiguous', naming.detail, null);
  if (naming.kind === 'own') return decide('own_address', naming.detail, found);

  const { address, port } = naming.offender;
  if (port === 0) return decide('port_zero', `${formatAddress(address)} port 0 is a connectivity probe`, address);
  if (policy === testPolicy && documentation.covering(address) === null) {
    return decide('test_address', `${formatAddress(address)} is no documentation address`, address);
  }
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

/** Whose alert it is: this host's, another's that its source may speak for, or one that means nothing here. */
export type Whose = 'ours' | 'fleet' | 'other';

/**
 * Falco before 0.33 names no host: such an alert is ours only where nobody else could have sent it, and from a source that
 * brings alerts of others it is nobody's.
 */
export function whoseAlert(alert: Alert, host: HostFacts, speaker: Speaker): Whose {
  if (host.names === null) return 'ours';
  if (alert.hostname === null) return alert.origin === 'local' && !speaker.remote ? 'ours' : 'other';
  const name = alert.hostname.toLowerCase();
  if (host.names.has(alert.hostname) || host.names.has(name)) return 'ours';
  return speaker.remote && speaker.fleetHosts.has(name) ? 'fleet' : 'other';
}

function whyOther(alert: Alert, speaker: Speaker): string {
  if (alert.hostname !== null) {
    return speaker.remote ? 'it is of another host, which its source may not speak for' : 'it is of another host';
  }
  return speaker.remote
    ? 'it names no host, and its source brings alerts of others'
    : 'it names no host and came over the network';
}

/** Calls that tell by themselves which half of a connection is the other side's. */
const tellingEvents = new Set(['connect', 'accept', 'accept4']);

const noPrefixes = prefixSet([]);

/** For alerts of other hosts: that an address is ours here says nothing of what it is there. */
const elsewhere: HostFacts = {
  names: null,
  own: noPrefixes,
  containers: noPrefixes,
  broadcasts: noPrefixes,
  gateways: noPrefixes,
  resolvers: noPrefixes,
  sessions: noPrefixes,
};

/** Whom it accuses. Of another host of the fleet, whose addresses are not known here, only what the call itself proves counts. */
function nameFor(whose: Whose, alert: Alert, host: HostFacts): Naming {
  if (whose !== 'fleet') return nameOffender(alert, host);
  const naming = nameOffender(alert, elsewhere);
  if (naming.kind !== 'offender' || tellingEvents.has(naming.event ?? '')) return naming;
  return {
    kind: 'ambiguous',
    detail: 'it is of another host, and only connect and accept tell whose address is whose',
  };
}

/** What is known of an alert without judging it: cheap, and a guess. */
export interface Glimpse {
  /** Null: it accuses nobody. */
  readonly offender: Address | null;
  /** What its policy would do, after the cap; neither the guard nor the alert's age are asked. */
  readonly applied: Action;
}

const nobody: Glimpse = { offender: null, applied: 'observe' };

/** For an alert that waits to be judged: whom it accuses, and what that may lead to. */
export function glimpse(
  alert: Alert,
  host: HostFacts,
  rules: Rules,
  state: JudgeState,
  speaker: Speaker = forThisHost,
): Glimpse {
  const whose = whoseAlert(alert, host, speaker);
  if (whose === 'other') return nobody;
  const naming = nameFor(whose, alert, host);
  const policy = policyFor(alert.rule, rules.policies);
  if (naming.kind !== 'offender' || policy?.never === true) return nobody;
  const { address } = naming.offender;
  const action = actionOf(policy, { ...naming, public: !isPrivate(address) });
  return { offender: address, applied: action === 'enforce' ? state.automatic : action };
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
