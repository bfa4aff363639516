/** Alerts that were shed are said, once a period: the sender of one that was given up for another was told that it was taken. */
import type { Intake } from '../sources/intake.ts';
import type { Logger } from './log.ts';

const everyMs = 10_000;

export interface ShedWatch {
  /** Says what was shed since the last time. */
  readonly say: () => void;
  readonly stop: () => void;
}

export function watchShed(intake: Pick<Intake, 'counts' | 'waiting'>, logger: Logger): ShedWatch {
  const said = new Map<string, number>();
  const say = (): void => {
    for (const [source, { shed }] of Object.entries(intake.counts())) {
      const times = shed - (said.get(source) ?? 0);
      if (times === 0) continue;
      said.set(source, shed);
      logger.warn({ source, times, waiting: intake.waiting }, 'more alerts than can be judged: some were shed');
    }
  };
  const timer = setInterval(say, everyMs);
  timer.unref();
  return { say, stop: () => clearInterval(timer) };
}
