/** Alerts in systemd's journal, wired to the queue, the log and what is durable. */
import type { JournalConfig } from '../config/config.ts';
import type { Intake } from '../sources/intake.ts';
import { Journal, type JournalPace } from '../sources/journal/journal.ts';
import { feedOf } from './lines.ts';
import type { Logger } from './log.ts';
import { type AddSource, noSources } from './sources.ts';
import { sayTo } from './text.ts';

export interface JournalOptions {
  readonly config: JournalConfig;
  /** Older alerts are refused: older entries need not be read. 0: any age is taken. */
  readonly maxAlertAgeSeconds: number;
  /** Bytes of one alert. */
  readonly longest: number;
  readonly intake: Intake;
  /** Where the cursor is kept. */
  readonly stateDir: string;
  /** As the journal's. */
  readonly durable: () => Promise<boolean>;
  readonly logger: Logger;
  readonly pace?: Partial<JournalPace>;
  /** Where it says how it is. */
  readonly add?: AddSource;
}

/** Resolves when journalctl runs; null when the journal is not to be read. Rejects with `journal_unavailable`. */
export async function openJournal(options: JournalOptions): Promise<Journal | null> {
  const { config, maxAlertAgeSeconds, logger, stateDir, durable, pace = {}, add = noSources } = options;
  if (!config.enabled) return null;
  const standing = add({ name: 'journal', kind: 'journal' });
  if (config.directory !== null) standing.at(config.directory);
  const say = standing.hears(sayTo(logger));
  const journal = new Journal({
    ...feedOf('journal', options, say),
    standing,
    selection: config,
    pastSeconds: maxAlertAgeSeconds === 0 ? null : maxAlertAgeSeconds,
    stateDir,
    durable,
    say,
    now: Date.now,
    pace,
  });
  await journal.start();
  return journal;
}
