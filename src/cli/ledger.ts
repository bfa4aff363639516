/** The ledger without the maps: history, export, backup and restore are for the time when the pins are gone, too. */
import { lstatSync, statSync } from 'node:fs';
import { ledgerPath, prepareState, type Service } from '../blocklist/ledger/files.ts';
import { Ledger, preloadLedger } from '../blocklist/ledger/ledger.ts';
import type { Hand as HandIdentity } from '../blocklist/ledger/record.ts';
import { FalcodropError } from '../errors.ts';
import { ownerOfPins } from '../kernel/owner.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, isRoot, stateDirOf } from './call.ts';
import { becomeService, identify, isDamaged, openLedger } from './hand.ts';

export interface LedgerAlone {
  readonly ledger: Ledger;
  readonly stateDir: string;
  readonly service: Service;
  readonly who: HandIdentity;
  readonly close: () => void;
}

/**
 * Opens it as those whom it belongs to, for good: what wants root is done before. Throws `ledger_*`, `not_permitted`; it is made
 * only where `create` says so.
 */
export function openLedgerAlone(call: Call, { create = false }: { create?: boolean } = {}): LedgerAlone {
  const stateDir = stateDirOf(call.environment);
  const who = identify(call);
  const service = becomeOwner(call);
  const ledger = create ? openLedger(call, stateDir, service) : Ledger.open(stateDir, { service, create });
  return { ledger, stateDir, service, who, close: () => ledger.close() };
}

/** Root becomes whom the maps, or else the ledger, belong to. */
export function becomeOwner(call: Call): Service {
  const stateDir = stateDirOf(call.environment);
  const service = serviceOf(call, stateDir);
  if (isRoot() && service.uid !== 0) {
    preloadLedger();
    try {
      prepareState(stateDir, service, { create: false });
    } catch (error) {
      // What to do about it is the service's part.
      if (!isDamaged(error)) throw error;
    }
    becomeService(service);
  }
  return service;
}

/** Whom the maps, or else the ledger, belong to. */
export function serviceOf(call: Call, stateDir: string): Service {
  try {
    return ownerOfPins(pinDirOf(call.environment));
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
  }
  // A link there is the service's way to any file: who owns that says nothing.
  const ledger = lstatSync(ledgerPath(stateDir), { throwIfNoEntry: false });
  const status = ledger?.isFile() === true ? ledger : statSync(stateDir, { throwIfNoEntry: false });
  if (status !== undefined) return { uid: status.uid, gid: status.gid };
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}
