/** The sources of the running daemon, as it tells of them; without one what it left of them. */
import { askDaemon } from '../daemon/ask.ts';
import { socketPath } from '../daemon/socket.ts';
import { readSourceReport, type SourceReport } from '../daemon/sources.ts';
import { FalcodropError } from '../errors.ts';
import { type Pasts, pastFile, readPasts } from '../sources/past.ts';
import { type Call, isRoot, stateDirOf } from './call.ts';
import { becomeService } from './hand.ts';
import { serviceOf } from './ledger.ts';

/** The daemon answers at once; one that does not is as good as none. */
const patienceMs = 3_000;

/** More than a configuration may name. */
const mostReports = 1_024;

/** Null: no daemon answers. Throws `not_permitted`. */
export async function askSources(stateDir: string, withinMs = patienceMs): Promise<SourceReport[] | null> {
  const reports: SourceReport[] = [];
  let isWhole = false;
  const ended = new AbortController();
  const late = setTimeout(() => ended.abort(), withinMs);
  try {
    const asked = await askDaemon(
      socketPath(stateDir),
      { verb: 'sources' },
      (line) => {
        const report = readSourceReport(line.source);
        if (report !== null && reports.length < mostReports) reports.push(report);
        isWhole ||= line.end === 'sources';
        if (isWhole || reports.length >= mostReports) ended.abort();
      },
      ended.signal,
    );
    // An older one knows no such verb.
    return asked === 'absent' || !isWhole ? null : reports;
  } finally {
    clearTimeout(late);
  }
}

/** What a daemon says, and what it left, is the service's: root does not read it as root. */
export function becomeReader(call: Call): void {
  if (!isRoot()) return;
  const service = serviceOf(call, stateDirOf(call.environment));
  if (service.uid !== 0) becomeService(service);
}

export async function readStored(stateDir: string): Promise<Pasts> {
  const pasts = await readPasts(pastFile(stateDir));
  return pasts === 'bad' ? new Map() : pasts;
}

export function daemonAbsent(stateDir: string): FalcodropError {
  return new FalcodropError(
    'daemon_absent',
    `no daemon answers at ${socketPath(stateDir)}`,
    'start it (falcodrop run), or name its state directory: FALCODROP_STATE_DIR',
  );
}
