/** Tells of some actions as whoever runs it. Usage: node member.ts STATE_DIR SOCKET UID GID; prints what it hears of trouble. */
import { parsePrefix } from '../../src/address/prefix.ts';
import type { LedgerEvent, Outcome } from '../../src/blocklist/ledger/record.ts';
import { Audit } from '../../src/observe/audit.ts';

const [, , stateDir = '', syslog = '', uid = '', gid = ''] = process.argv;
const audit = new Audit({
  stateDir,
  service: { uid: Number(uid), gid: Number(gid) },
  sockets: { journal: '/nonexistent/journal', syslog },
  onTrouble: (message) => process.stdout.write(`${message}\n`),
});
const event: LedgerEvent = { kind: 'end', target: parsePrefix('203.0.113.66') };
for (let n = 0; n < 3; n++) {
  const row = {
    id: n,
    wallMs: n,
    action: 'ended',
    isOfSet: false,
    owner: 'hand',
    rule: null,
    cause: 1,
    count: 1,
  } as const;
  const outcome: Outcome = { status: 'ended', owners: ['hand'], remaining: [], rows: [row] };
  audit.tell([event], [outcome], 0);
  await audit.flush();
}
await audit.close();
