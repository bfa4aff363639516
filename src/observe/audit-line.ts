/**
 * What was done, by whom and why, as one line of JSON. Names are those of the Elastic Common Schema (ECS 8) where it has one,
 * with dots, else they begin with `falcodrop.`.
 */
import type { Owner } from '../blocklist/claims.ts';
import { type Cause, forEver, type Hand, type LedgerEvent, never, type Outcome } from '../blocklist/ledger/record.ts';
import { targetText } from '../blocklist/target.ts';

export type AuditLine = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

/** Where and when. */
export interface Scene {
  /** ms since 1970. */
  readonly wallMs: number;
  readonly hostname: string;
  /** The wall clock at a moment of ledger time, in ms. */
  readonly wallOf: (ledgerMs: number) => number;
}

/** Root's verbs that are no business of the ledger. */
export interface RootAct {
  readonly action: 'attached' | 'replaced' | 'detached' | 'purged' | 'mode_set' | 'allowed' | 'disallowed' | 'restored';
  readonly interface?: string;
  readonly target?: NonNullable<LedgerEvent['target']>;
  readonly detail?: string;
  readonly hand: Hand | null;
}

/** ECS `event.type` by action. */
const types: Readonly<Record<string, string>> = {
  made: 'creation',
  adopted: 'creation',
  extended: 'change',
  replaced: 'change',
  reconciled: 'change',
  restored: 'change',
  withdrawn: 'deletion',
  undone: 'deletion',
  ended: 'end',
  refused: 'denied',
  attached: 'start',
  detached: 'end',
  purged: 'deletion',
  allowed: 'creation',
  disallowed: 'deletion',
};

/**
 * None where nothing was changed. A withdrawal has a line for each owner whose claim it ended, as the history has. Of a set
 * (`cause` of a number) `count` targets are one line without a target.
 */
export function auditLines(event: LedgerEvent, outcome: Outcome, cause: Cause | null, scene: Scene): AuditLine[] {
  const { status } = outcome;
  if (status === 'unchanged' || status === 'buried' || status === 'void') return [];
  if (event.kind === 'note') {
    const { action, owner, count, detail } = event;
    return [{ ...base(action, event, cause, scene), ...ownerOf(owner), 'falcodrop.count': count, ...reason(detail) }];
  }
  if (event.kind === 'refuse') {
    return [
      {
        ...base('refused', event, cause, scene),
        ...ownerOf(event.owner),
        ...reason(event.detail),
        'event.outcome': 'failure',
      },
    ];
  }
  if (event.kind === 'bury') return [];
  const line = base(status, event, cause, scene);
  if (event.kind === 'wish') {
    const isDrop = event.dropEnd !== never;
    const end = isDrop ? event.dropEnd : event.countEnd;
    return [
      {
        ...line,
        ...ownerOf(event.owner),
        'falcodrop.mode': isDrop ? 'enforce' : 'monitor',
        // null: for ever
        'falcodrop.ends_at': end === forEver ? null : iso(scene.wallOf(end)),
      },
    ];
  }
  if (outcome.owners.length === 0) return [line];
  return outcome.owners.map((owner) => ({ ...line, ...ownerOf(owner) }));
}

export function rootActLine({ action, interface: name, target, detail, hand }: RootAct, scene: Scene): AuditLine {
  return {
    ...head(action, scene),
    ...(name === undefined ? {} : { 'observer.ingress.interface.name': name }),
    ...targetFields(target ?? null),
    ...reason(detail ?? null),
    ...handFields(hand),
  };
}

/** For people who read the system's log. Texts are as they came: whoever writes it makes them harmless. */
export function sentenceOf(line: AuditLine): string {
  const text = (name: string): string | null => (typeof line[name] === 'string' ? line[name] : null);
  const target = text('source.address') ?? text('observer.ingress.interface.name');
  const count = line['falcodrop.count'];
  const what = target ?? (typeof count === 'number' ? `${count} targets` : '');
  const mode = text('falcodrop.mode');
  const end = line['falcodrop.ends_at'];
  const until = end === undefined ? '' : end === null ? ' for ever' : ` until ${String(end)}`;
  const owner = text('falcodrop.owner');
  const user = text('user.name') ?? text('user.id');
  const by = [owner, user === null ? null : `user ${user}`, text('client.ip')].filter((part) => part !== null);
  const rule = text('rule.name');
  const why = [rule === null ? null : `rule ${JSON.stringify(rule)}`, text('event.reason')].filter(
    (part) => part !== null,
  );
  return [
    `${String(line['event.action'])} ${what}`.trim(),
    mode === null ? '' : ` (${mode}${until})`,
    by.length === 0 ? '' : ` by ${by.join(', ')}`,
    why.length === 0 ? '' : `: ${why.join(', ')}`,
  ].join('');
}

function base(action: string, event: LedgerEvent, cause: Cause | null, scene: Scene): AuditLine {
  const isOfSet = 'cause' in event && typeof event.cause === 'number';
  const target = isOfSet ? null : event.target;
  return { ...head(action, scene), ...targetFields(target), ...(cause === null ? {} : causeFields(cause)) };
}

function head(action: string, { wallMs, hostname }: Scene): AuditLine {
  return {
    '@timestamp': iso(wallMs),
    'ecs.version': '8.11.0',
    'event.kind': 'event',
    'event.dataset': 'falcodrop.audit',
    'event.category': ['configuration', 'network'],
    'event.type': [types[action] ?? 'change'],
    'event.action': action,
    'event.outcome': 'success',
    'host.name': hostname,
    'process.pid': process.pid,
  };
}

function targetFields(target: LedgerEvent['target']): AuditLine {
  if (target === null) return {};
  const { text, isAddress } = targetText(target);
  // source.ip takes no prefixes.
  return { 'source.address': text, ...(isAddress ? { 'source.ip': text } : {}) };
}

function ownerOf(owner: Owner | null): AuditLine {
  return owner === null ? {} : { 'falcodrop.owner': owner };
}

function reason(text: string | null): AuditLine {
  return text === null ? {} : { 'event.reason': text };
}

function causeFields(cause: Cause): AuditLine {
  if (cause.kind !== 'alert') {
    const name = 'name' in cause && cause.name !== null ? { 'falcodrop.set': cause.name } : {};
    return { ...handFields(cause.hand), ...name, ...reason(cause.reason), 'falcodrop.cause': cause.kind };
  }
  const { id, rule, priority, hostname, timeMs, policy } = cause;
  return {
    'falcodrop.cause': 'alert',
    'falcodrop.alert.id': id,
    'rule.name': rule,
    'rule.ruleset': policy,
    'log.level': priority,
    'falcodrop.alert.host': hostname,
    'falcodrop.alert.time': timeMs === null ? null : iso(timeMs),
  };
}

function handFields(hand: Hand | null): AuditLine {
  if (hand === null) return {};
  const { verb, loginUid, uid, sudoUser, tty, sshClient } = hand;
  return {
    'falcodrop.verb': verb,
    // Who logged in; what he became is the effective one.
    'user.id': loginUid === null ? String(uid) : String(loginUid),
    'user.effective.id': String(uid),
    ...(sudoUser === null ? {} : { 'user.name': sudoUser }),
    ...(tty === null ? {} : { 'falcodrop.tty': tty }),
    ...(sshClient === null ? {} : { 'client.ip': sshClient }),
  };
}

/** Whatever the clocks say: beyond what Date can hold is null's business, not an exception's. */
function iso(ms: number): string {
  const bounded = Math.min(Math.max(ms, -8.64e15), 8.64e15);
  return new Date(bounded).toISOString();
}
