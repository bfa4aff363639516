/** Why tests block and unblock. */
import type { SetCause } from '../../src/blocklist/ledger/record.ts';

export const byTest: SetCause = { kind: 'adopted', name: 'test', hand: null, reason: null };
