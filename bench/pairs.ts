/** A B A B in one process: what a source costs over its floor, by the clock and in CPU time, which other load disturbs less. */
import { median, say } from './host.ts';

export interface Compared {
  readonly what: string;
  readonly alerts: number;
  readonly pairs: number;
  /** Each takes all alerts once; what it has to prepare is prepared before. */
  readonly a: { readonly name: string; readonly run: () => Promise<void> | void };
  readonly b: readonly { readonly name: string; readonly run: () => Promise<void> }[];
}

/** Prints alerts a second and µs of this process's CPU an alert, medians, and the medians of the ratios of neighbours in time. */
export async function comparePairs({ what, alerts, pairs, a, b }: Compared): Promise<void> {
  const all = [a, ...b];
  const rates: number[][] = all.map(() => []);
  const cpu: number[][] = all.map(() => []);
  // The first round of each compiles.
  for (let round = 0; round <= pairs; round++) {
    for (const [nth, { run }] of all.entries()) {
      const [begun, before] = [performance.now(), process.cpuUsage()];
      await run();
      const { user, system } = process.cpuUsage(before);
      const rate = (alerts / (performance.now() - begun)) * 1_000;
      if (round === 0) continue;
      rates[nth]?.push(rate);
      cpu[nth]?.push((user + system) / alerts);
    }
  }
  say(`${what}: ${alerts} alerts, medians of ${pairs}:`);
  for (const [nth, { name }] of all.entries()) {
    const of = rates[nth] ?? [];
    const ratio = median(of.map((rate, round) => rate / (rates[0]?.[round] ?? Number.NaN)));
    const us = median(cpu[nth] ?? []);
    const share = median((cpu[nth] ?? []).map((own, round) => (cpu[0]?.[round] ?? Number.NaN) / own));
    const rate = `${median(of).toFixed(0).padStart(7)} alerts/s   : bare ${ratio.toFixed(2)}`;
    say(`${name.padEnd(34)} ${rate}   CPU ${us.toFixed(1)} µs   : bare ${share.toFixed(2)}`);
  }
}
