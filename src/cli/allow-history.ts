/** Rows of the history about allows. The ledger is the service's: root becomes it for good, so this is a command's last act. */
import type { AllowChange } from './allow.ts';
import type { Call } from './call.ts';
import { failureOf } from './failure.ts';
import { openLedgerAlone } from './ledger.ts';

/** What is allowed is in the kernel already, and told to the audit: without a ledger it is a note, not a failure. */
export function tellHistory(call: Call, changes: readonly AllowChange[]): void {
  try {
    const { ledger, who, close } = openLedgerAlone(call, { create: true });
    try {
      ledger.apply(
        changes.map(({ action, target, detail }) => ({
          kind: 'note' as const,
          action,
          target,
          owner: null,
          count: 1,
          detail: detail === '' ? null : detail,
          cause: { kind: 'hand' as const, hand: who, reason: null },
        })),
      );
    } finally {
      close();
    }
  } catch (error) {
    call.answer.note(`it does not stand in the history: ${failureOf(error, call.verb).message}`);
  }
}
