/** Copies of the ledger in the state directory that a backup or a restore left which was killed. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** `backup.PID`, `restore.PID`, and `ledger.db.PID.restore` with what SQLite lays beside it. */
const copy = /^(?:(?:backup|restore)\.(\d+)$|ledger\.db\.(\d+)\.restore)/;

/** Those of processes that are gone. Each is as large as the ledger, and nobody else would ever remove it. */
export function removeCopies(stateDir: string): void {
  for (const name of readdirSync(stateDir)) {
    const [, ofVerb, ofLedger] = copy.exec(name) ?? [];
    const pid = ofVerb ?? ofLedger;
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      rmSync(join(stateDir, name), { recursive: true, force: true });
    }
  }
}
