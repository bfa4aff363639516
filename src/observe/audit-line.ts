/**
 * What was done, by whom and why, as one line of JSON. Names are those of the Elastic Common Schema (ECS 8) where it has one,
 * with dots, else they begin with `falcodrop.`.
 */
import type { Owner } from '../blocklist/claims.ts';
import {
  type Cause,
  type CauseId,
  forEver,
  type Hand,
  type LedgerEvent,
  never,
  type Outcome,
  type Written,
} from '../blocklist/ledger/record.ts';
import { formatPorts, targetText } from '../blocklist/target.ts';

export type AuditLine = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

/** Where and when. */
export interface Scene {
  /** ms since 1970. */
  readonly wallMs: number;
  readonly hostname: string;
  /** The wall clock at a moment of ledger time, in ms. */
  readonly wallOf: (ledgerMs: number) => number;
}

/** What is done by no event of the ledger: root's verbs, and a restore of the ledger itself. */
export interface RootAct {
  readonly action: 'attached' | 'replaced' | 'detached' | 'purged' | 'mode_set' | 'allowed' | 'disallowed' | 'restored';
  readonly interface?: string;
  readonly target?: NonNullable<LedgerEvent['target']>;
  readonly detail?: string;
  /** Its number in the history, where it is there. */
  readonly row?: number;
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
 * A line for each row that the history got, with the row's number and moment: log and ledger say the same. `causeOf`: the cause
 * of a set by its number. Of a set a line tells how many targets were added to its row.
 */
export function auditLines(
  event: LedgerEvent,
  { rows = [] }: Outcome,
  causeOf: (id: CauseId) => Cause | null,
  scene: Scene,
): AuditLine[] {
  return rows.map((row) => {
    const line = { ...base(row, event, scene), ...causeFields(causeFor(row, event, causeOf)), ...ruleOf(row.rule) };
    if (event.kind === 'note') return { ...line, ...reason(event.detail) };
    if (event.kind === 'refuse') return { ...line, ...reason(event.detail), 'event.outcome': 'failure' };
    if (event.kind !== 'wish' || row.isOfSet || row.action === 'ended') return line;
    const isDrop = event.dropEnd !== never;
    const end = isDrop ? event.dropEnd : event.countEnd;
    return {
      ...line,
      'falcodrop.mode': isDrop ? 'enforce' : 'monitor',
      ...(event.ports === undefined ? {} : { 'falcodrop.ports': formatPorts(event.ports) }),
      // null: for ever
      'falcodrop.ends_at': end === forEver ? null : iso(scene.wallOf(end)),
    };
  });
}

/** A claim ends by itself: what met it is not the cause of that. */
function causeFor(
  { isOfSet, action, cause }: Written,
  event: LedgerEvent,
  causeOf: (id: CauseId) => Cause | null,
): Cause | null {
  if (isOfSet) return cause === null ? null : causeOf(cause);
  if (action === 'ended' || !('cause' in event)) return null;
  return typeof event.cause === 'number' ? causeOf(event.cause) : event.cause;
}

export function rootActLine({ action, interface: name, target, detail, hand, row }: RootAct, scene: Scene): AuditLine {
  return {
    ...head(action, scene),
    ...(row === undefined ? {} : { 'falcodrop.history.id': row }),
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

function base({ id, wallMs, action, isOfSet, owner, count }: Written, event: LedgerEvent, scene: Scene): AuditLine {
  const target = isOfSet ? null : event.target;
  return {
    ...head(action, { ...scene, wallMs }),
    'falcodrop.history.id': id,
    ...targetFields(target),
    ...ownerOf(owner),
    ...(target === null ? { 'falcodrop.count': count } : {}),
  };
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

/** Of a withdrawal: the rule behind the claim that it ended. */
function ruleOf(rule: string | null): AuditLine {
  return rule === null ? {} : { 'rule.name': rule };
}

function causeFields(cause: Cause | null): AuditLine {
  if (cause === null) return {};
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
