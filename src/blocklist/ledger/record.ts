/**
 * What the ledger holds, as plain data: claims, their causes, the history, and the events that change them.
 *
 * Times are ledger milliseconds (clock.ts) unless a name says wall. Ends: {@link never}, {@link forEver}, or a moment; a claim
 * lives while now < end.
 */
import type { Ports } from '../../address/port.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { Owner } from '../claims.ts';

export const never = 0;
/** 2⁵³−1: greater than any moment, and exact both in SQLite and here. */
export const forEver = Number.MAX_SAFE_INTEGER;

/** Until when a claim drops, and until when it only counts; each to its own end. */
export interface Ends {
  readonly dropEnd: number;
  readonly countEnd: number;
}

/** The hand behind a command. */
export interface Hand {
  readonly verb: string;
  /** The audit login uid: who logged in, whatever he became since; null where the kernel does not know. */
  readonly loginUid: number | null;
  readonly uid: number;
  readonly sudoUser: string | null;
  readonly tty: string | null;
  /** Address of the SSH client. */
  readonly sshClient: string | null;
}

export interface AlertCause {
  readonly kind: 'alert';
  /** The alert's uuid, else the SHA-256 of its text. */
  readonly id: string;
  readonly rule: string;
  readonly priority: string;
  readonly hostname: string | null;
  /** ms since 1970, the alert's own; null when it has none. */
  readonly timeMs: number | null;
  readonly policy: string | null;
  /** SHA-256 of the policy's text. */
  readonly policyHash: string | null;
  /** Compact JSON; what is beyond {@link longestAlertBytes} is cut off. */
  readonly alert: string | null;
}

export interface HandCause {
  readonly kind: 'hand';
  readonly hand: Hand;
  readonly reason: string | null;
}

/** A set of targets: a file, a feed, what was found in the maps, what came back from a backup. */
export interface SetCause {
  readonly kind: 'import' | 'feed' | 'adopted' | 'restore';
  /** The file's or the feed's name. */
  readonly name: string | null;
  readonly hand: Hand | null;
  readonly reason: string | null;
}

export type Cause = AlertCause | HandCause | SetCause;

/** The row of a cause made by `addCause`, for sets of many targets: their history is one row with a count. */
export type CauseId = number;

export type StoredCause = Cause & { readonly causeId: CauseId; readonly at: number; readonly wallMs: number };

/** UTF-8 bytes that are kept. */
export const longestAlertBytes = 4096;
export const longestTextBytes = 1024;

export interface Claim extends Ends {
  readonly target: Prefix;
  readonly owner: Owner;
  /** What it is limited to; empty: nothing. One owner may have claims of several sets of ports on a target. */
  readonly ports: Ports;
  /** The end that `confirm` gives it, later than {@link Ends}; null: nothing is to be confirmed. */
  readonly wishedEnd: number | null;
  readonly begun: number;
  readonly cause: CauseId;
  /** When it was withdrawn; the row goes when the map's entry was seen gone (law 4). null: it was not. */
  readonly withdrawnAt: number | null;
}

export type Action =
  | 'made'
  | 'extended'
  | 'replaced'
  | 'adopted'
  | 'withdrawn'
  | 'undone'
  | 'ended'
  | 'refused'
  | 'reconciled'
  | 'restored'
  | 'allowed'
  | 'disallowed';

/** When it happened, in ledger ms; without it, at the commit. */
interface Happened {
  readonly at?: number;
}

/** A claim is made, or extended: within a claim each of the two ends is the later one. */
export interface WishEvent extends Happened, Ends {
  readonly kind: 'wish';
  readonly target: Prefix;
  readonly owner: Owner;
  /** Every port when absent. Claims of other ports are other claims. */
  readonly ports?: Ports;
  /** The end wished for, to be confirmed before the (earlier) ends come. */
  readonly wishedEnd?: number;
  /** Sets the ends exactly, so it may shorten, and takes the owner's claims of other ports back. */
  readonly replace?: boolean;
  /** With `replace`: the history says `undone`. */
  readonly undo?: boolean;
  /** Says `adopted` instead of `made`: the entry was found in the maps. */
  readonly adopted?: boolean;
  /** `void` instead, when the target was withdrawn at that moment or later: an unblock came between the map and this. */
  readonly unlessWithdrawnSince?: number;
  readonly cause: Cause | CauseId;
}

/**
 * Claims are withdrawn. Where no live claim of somebody else is left, at least one tombstone is, also when the ledger knew of no
 * claim: a crash before the map's entry is gone must not bring it back.
 */
export interface WithdrawEvent extends Happened {
  readonly kind: 'withdraw';
  readonly target: Prefix;
  /** `all_but_feeds` is what a hand's unblock ends. */
  readonly owners: 'all' | 'all_but_feeds' | readonly Owner[];
  /** What the history says; `withdrawn` unless it is an undo. */
  readonly action?: 'withdrawn' | 'undone';
  readonly cause: Cause | CauseId;
}

/** The map's entry was seen gone, or set to what the other claims wish: the tombstones of the target go. */
export interface BuryEvent extends Happened {
  readonly kind: 'bury';
  readonly target: Prefix;
}

/** Claims of the target that have ended go; what lives stays. */
export interface EndEvent extends Happened {
  readonly kind: 'end';
  readonly target: Prefix;
}

/** The guard, or something else, said no. History only. */
export interface RefuseEvent extends Happened {
  readonly kind: 'refuse';
  /** null: several, `count` of them, of whom `detail` tells. */
  readonly target: Prefix | null;
  readonly count?: number;
  readonly owner: Owner | null;
  /** Why, in words. */
  readonly detail: string;
  /** Until when it would have been. */
  readonly ends?: Ends;
  readonly cause: Cause | CauseId;
}

/** History only: something was done to the maps to make them what the ledger says, or root's verbs did something to a target. */
export interface NoteEvent extends Happened {
  readonly kind: 'note';
  readonly action: 'reconciled' | 'restored' | 'allowed' | 'disallowed';
  readonly target: Prefix | null;
  readonly owner: Owner | null;
  readonly count: number;
  readonly detail: string | null;
  /** None: nobody's in particular. */
  readonly cause?: Cause;
}

export type LedgerEvent = WishEvent | WithdrawEvent | BuryEvent | EndEvent | RefuseEvent | NoteEvent;

/** A row of history that was written; of a set's the part that was added just now. */
export interface Written {
  readonly id: number;
  /** When it happened, as the history has it. Of a set: when this part was added. */
  readonly wallMs: number;
  readonly action: Action;
  /** True: the row has no target, and `count` says of how many this part is. */
  readonly isOfSet: boolean;
  readonly owner: Owner | null;
  readonly rule: string | null;
  readonly cause: CauseId | null;
  readonly count: number;
}

/** What an event did, in the order of the events. */
export interface Outcome {
  /** `unchanged`: no live claim was touched. */
  readonly status: Action | 'unchanged' | 'buried' | 'void';
  /** Whose claims it touched. */
  readonly owners: readonly Owner[];
  /** Of a withdrawal: who still has a live claim on the target. */
  readonly remaining: readonly Owner[];
  /**
   * What the history got. More than `status` tells: a claim that nobody had seen end is written down when another event meets
   * it. A set's row stands with the last of its events in the transaction.
   */
  readonly rows?: readonly Written[];
}

export interface HistoryRow {
  readonly id: number;
  readonly at: number;
  readonly wallMs: number;
  readonly action: Action;
  /** null: a set; `count` says of how many. */
  readonly target: Prefix | null;
  readonly owner: Owner | null;
  readonly rule: string | null;
  /** Of the claim after it, or as it was refused; null where there is none. */
  readonly ends: Ends | null;
  /** Of the claim before it. */
  readonly before: Ends | null;
  readonly cause: CauseId | null;
  readonly count: number;
  readonly detail: string | null;
  /** Of the claim; empty: every port, or no claim is spoken of. */
  readonly ports: Ports;
}

/** One grammar for all that lists. */
export interface Filter {
  /** Targets that lie in it whole. */
  readonly within?: Prefix;
  readonly owner?: OwnerFilter;
  /** Of the alert behind it, exactly. */
  readonly rule?: string;
  /** Wall ms, since included and until excluded: of claims when they began, of history when it happened. */
  readonly since?: number;
  readonly until?: number;
  readonly mode?: 'enforce' | 'monitor';
  readonly limit?: number;
}

/** `policy` and `feed`: of any name. */
export type OwnerFilter = Owner | 'policy' | 'feed';

export interface ClaimFilter extends Filter {
  /** `live` by default. `ended`: not yet reaped. `withdrawn`: tombstones. */
  readonly state?: 'live' | 'ended' | 'withdrawn' | 'any';
  /** By address by default. `begin` and `end` sort all rows before the first comes. */
  readonly sort?: 'address' | 'begin' | 'end';
  readonly descending?: boolean;
}

export interface HistoryFilter extends Filter {
  /** What was done to it, to what lies in it, to what holds it whole, and the sets that claim it or what holds it. */
  readonly about?: Prefix;
  /** What was done to this target itself. */
  readonly exactly?: Prefix;
  readonly action?: Action;
  /** Ledger time: what has passed since, whatever the wall clock showed then and shows now. From included, to excluded. */
  readonly from?: number;
  readonly to?: number;
  /** Newest first by default; with a limit it is the newest that remain either way. */
  readonly oldestFirst?: boolean;
}
