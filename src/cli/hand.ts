/**
 * A hand on the block list: the maps and the ledger, opened as those whom they belong to.
 *
 * Root must not parse a file that the service can write, and the ledger is one. So a root hand becomes the service before it
 * opens it, for good: what is left to do needs no more than the service may. Whatever wants root (files named by the caller,
 * the root-only list of forced claims) is done before {@link openHand}.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { formatAddress } from '../address/address.ts';
import type { Book } from '../blocklist/blocklist.ts';
import { Blocklist } from '../blocklist/blocklist.ts';
import { moveAside, pruneAside } from '../blocklist/ledger/aside.ts';
import { identityOf, prepareState, type Service } from '../blocklist/ledger/files.ts';
import { Ledger, type LedgerOptions, preloadLedger } from '../blocklist/ledger/ledger.ts';
import type { HandCause, Hand as HandIdentity } from '../blocklist/ledger/record.ts';
import { FalcodropError } from '../errors.ts';
import { readCaller } from '../host/caller.ts';
import { ownerOfPins } from '../kernel/owner.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { Audit } from '../observe/audit.ts';
import { type Call, isRoot, stateDirOf } from './call.ts';

export interface Hand {
  readonly blocklist: Blocklist;
  /** Null: it can not be opened (said as a note); the maps are all that is known. */
  readonly ledger: Ledger | null;
  /** Why not. */
  readonly trouble: FalcodropError | null;
  readonly service: Service;
  readonly because: (reason: string | null) => HandCause;
  readonly close: () => void;
}

/**
 * Throws what `Blocklist.open` throws. A ledger that is damaged is moved aside and begun anew, one that can not be opened is
 * done without until something is to be written, which then fails with its error: drops need no ledger.
 */
export function openHand(call: Call): Hand {
  const pinDir = pinDirOf(call.environment);
  const service = ownerOfPins(pinDir);
  const identity = identify(call);
  const stateDir = stateDirOf(call.environment);
  let trouble: FalcodropError | null = null;
  const attempt = <T>(work: () => T): T | null => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof FalcodropError)) throw error;
      trouble = error;
      return null;
    }
  };
  if (isRoot() && service.uid !== 0) {
    preloadLedger();
    attempt(() => {
      try {
        prepareState(stateDir, service);
      } catch (error) {
        // Moving it aside is the service's part.
        if (!isDamaged(error)) throw error;
      }
    });
    becomeService(service);
  }
  let ledger: Ledger | null = null;
  const audit = new Audit({
    stateDir,
    service,
    causeOf: (id) => ledger?.cause(id) ?? null,
    onTrouble: (message) => call.answer.note(message),
  });
  // All that is committed is told, what a reconcile does too.
  const onApplied: LedgerOptions['onApplied'] = (...applied) => audit.tell(...applied);
  if (trouble === null) ledger = attempt(() => openLedger(call, stateDir, service, onApplied));
  if (trouble !== null) call.answer.note(`the ledger can not be used: ${(trouble as FalcodropError).message}`);
  const book = ledger === null ? bookOfTrouble(trouble) : bookOf(ledger);
  try {
    const blocklist = Blocklist.open(pinDir, {
      book,
      onClock: (movedNs) => {
        const seconds = (Number(movedNs / 1_000_000n) / 1000).toFixed(1);
        call.answer.note(`the clock of all ends was moved by ${seconds} s, the time that this host was suspended`);
      },
    });
    return {
      blocklist,
      ledger,
      trouble,
      service,
      because: (reason) => ({ kind: 'hand', hand: identity, reason }),
      close: () => {
        blocklist.close();
        ledger?.close();
        void audit.close();
      },
    };
  } catch (error) {
    ledger?.close();
    throw error;
  }
}

/** True: the ledger is good for nothing any more, and a new one can begin from what the maps hold. */
export function isDamaged(error: unknown): error is FalcodropError {
  return error instanceof FalcodropError && (error.code === 'ledger_corrupt' || error.code === 'ledger_not_database');
}

/** Opens the ledger; a damaged one is moved aside, which is said, and a new one begun. As the service. */
export function openLedger(
  call: Call,
  stateDir: string,
  service: Service,
  onApplied: LedgerOptions['onApplied'] = () => undefined,
): Ledger {
  const bad = identityOf(stateDir);
  try {
    return Ledger.open(stateDir, { service, onApplied });
  } catch (error) {
    if (!isDamaged(error)) throw error;
    setAside(call, { stateDir, service, bad, error });
    return Ledger.open(stateDir, { service, onApplied });
  }
}

/** Moves a damaged ledger aside and says so; `bad`: its identity from before it was found to be damaged. */
export function setAside(
  call: Call,
  { stateDir, service, bad, error }: { stateDir: string; service: Service; bad: string | null; error: FalcodropError },
): void {
  const aside = moveAside(stateDir, { service, bad, wallMs: call.clock.now() });
  const where = aside === null ? '' : `; it lies at ${aside} now`;
  call.answer.note(`${error.message}${where}. A new one begins from what the maps hold: falcodrop reconcile`);
  const deleted = pruneAside(stateDir, aside);
  if (deleted.length > 0) {
    call.answer.note(`of ledgers moved aside the newest three are kept; deleted: ${deleted.join(', ')}`);
  }
}

export function bookOf(ledger: Ledger): Book {
  return {
    now: () => ledger.now(),
    record: (events) => (events.length === 0 ? [] : ledger.apply(events)),
    enter: (events) => (events.length === 0 ? [] : ledger.commit(events)),
    sync: () => ledger.sync(),
    trouble: null,
    claimsOf: (target) => ledger.claimsOf(target),
  };
}

/** Nothing can be written down: what is done to the maps ends in that error, and is not acknowledged. */
function bookOfTrouble(trouble: FalcodropError | null): Book {
  return {
    now: () => 0,
    record: (events) => {
      if (events.length > 0 && trouble !== null) throw trouble;
      return [];
    },
    trouble,
    claimsOf: () => [],
  };
}

/** Groups first, the user last: after it there is no way back. */
export function becomeService({ uid, gid }: Service): void {
  process.setgroups?.([gid]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

/** Who is behind this command, as far as the kernel and the environment tell. */
export function identify(call: Call): HandIdentity {
  const { environment, verb } = call;
  return {
    verb,
    loginUid: readLoginUid(),
    uid: process.getuid?.() ?? 0,
    sudoUser: environment.SUDO_USER ?? null,
    tty: readTerminal(),
    sshClient: clientOf(environment),
  };
}

function clientOf(environment: NodeJS.ProcessEnv): string | null {
  const client = readCaller(environment)?.client;
  return client === undefined ? null : formatAddress(client);
}

/** Audit's login uid stays what it was through su and sudo; 2³²−1 = nobody logged in. */
function readLoginUid(): number | null {
  try {
    const uid = Number(readFileSync('/proc/self/loginuid', 'utf8'));
    return Number.isInteger(uid) && uid !== 0xffffffff ? uid : null;
  } catch {
    return null;
  }
}

function readTerminal(): string | null {
  for (const descriptor of [0, 2]) {
    try {
      const path = readlinkSync(`/proc/self/fd/${descriptor}`);
      if (/^\/dev\/(pts\/\d+|tty\w*)$/.test(path)) return path.slice('/dev/'.length);
    } catch {
      // closed
    }
  }
  return null;
}
