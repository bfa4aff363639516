/** What root's verbs do to interfaces, in the audit beside what hands and policies do. */
import { existsSync } from 'node:fs';
import type { Service } from '../blocklist/ledger/files.ts';
import { Audit } from '../observe/audit.ts';
import type { RootAct } from '../observe/audit-line.ts';
import { type Call, stateDirOf } from './call.ts';
import { identify } from './hand.ts';

/** Tells of acts. Where there is no state directory the system's log alone hears of them. */
export function openRootAudit(call: Call, service: Service): (act: Omit<RootAct, 'hand'>) => void {
  const stateDir = stateDirOf(call.environment);
  const audit = new Audit({
    stateDir,
    service,
    ...(existsSync(stateDir) ? { onTrouble: (message: string) => call.answer.note(message) } : {}),
  });
  const hand = identify(call);
  return (act) => audit.tellRootAct({ ...act, hand });
}
