/**
 * What an alert costs that changes nothing, on a real host with real maps: one of an offender who is blocked already, judged
 * (the queue is empty) and shed (it is full), and one that came before over another way. Each as a ratio to JSON.parse of the
 * same texts in the same run, in turns. Then a flood of a million alerts over half as many offenders as the queue has places,
 * pushed without a pause: how many of them are not judged, and what memory it took.
 * Usage: intake.ts [ROUNDS] [FLOOD]
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { parseAddress } from '../src/address/address.ts';
import { hostPrefix } from '../src/address/prefix.ts';
import { prefixSet } from '../src/address/set.ts';
import { Blocklist } from '../src/blocklist/blocklist.ts';
import { openAlerts } from '../src/daemon/alerts.ts';
import { openGlance } from '../src/daemon/glance.ts';
import { openLog } from '../src/daemon/log.ts';
import type { HostFacts } from '../src/judge/host-facts.ts';
import { defaultRules } from '../src/judge/judge.ts';
import { Intake, intakeLimits } from '../src/sources/intake.ts';
import { address, median, onHost, root, say } from './host.ts';

const rounds = Number(process.argv[2] ?? 11);
const flood = Number(process.argv[3] ?? 1_000_000);
const offenders = intakeLimits.alerts / 2;
const each = 10_000;
/** As many come between two turns of the event loop when nothing is wrong. */
const few = 16;

const recorded = readFileSync(join(root, 'test/fixtures/alerts/falco-0.43-append.jsonl'), 'utf8')
  .split('\n')
  .find((line) => line.includes('"rule":"Connection to Canary Port"') && line.includes('203.0.113.66:'));

/** A real alert of Falco 0.43, but for its time and the attacker: every one another. */
function alertOf(n: number, source: string): string {
  if (recorded === undefined) throw new Error('the recorded alert is missing');
  return recorded
    .replaceAll('203.0.113.66:', `${source}:`)
    .replaceAll('"203.0.113.66"', `"${source}"`)
    .replace(/"time":"[^"]*"/, `"time":"2026-01-01T00:00:00.${String(n % 1_000_000_000).padStart(9, '0')}Z"`);
}

const attacker = (n: number): string => `198.${18 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;

const none = prefixSet([]);
const own = prefixSet([hostPrefix(parseAddress(address))]);
const facts: HostFacts = {
  names: new Set(['edge-1']),
  own,
  containers: none,
  broadcasts: none,
  gateways: none,
  resolvers: none,
  sessions: none,
};

const microseconds = (begunMs: number, count: number): number => ((performance.now() - begunMs) * 1_000) / count;

await onHost(16_384, async ({ lab }) => {
  const blocklist = Blocklist.open(lab.pinDir);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const judging = {
    facts: () => facts,
    rules: { ...defaultRules, maxAlertAgeSeconds: 0 },
    state: { automatic: 'enforce' as const },
    blocklist,
  };
  const alerts = openAlerts({
    ...judging,
    logger: openLog(nowhere).logger,
    clock: { now: () => Date.now() },
    onWritten: () => undefined,
  });
  const open = (limits = intakeLimits): Intake => new Intake(alerts.take, limits, { glance: openGlance(judging) });

  const blocked = attacker(0);
  const first = open();
  first.push(alertOf(0, blocked), 'x', 'local', process.hrtime.bigint());
  await first.idle();
  if (!blocklist.holds(parseAddress(blocked), 'enforce')) throw new Error(`${blocked} is not blocked`);

  let nth = 0;
  const some = (): string[] => Array.from({ length: each }, () => alertOf(++nth, blocked));
  const took = { parse: [] as number[], judged: [] as number[], shed: [] as number[], duplicate: [] as number[] };
  for (let round = 0; round < rounds + 2; round++) {
    const texts = some();
    const judgedBy = open({ alerts: each, characters: 1 << 30 });
    const shedBy = open({ alerts: 1, characters: 1 << 20 });
    shedBy.push(alertOf(++nth, blocked), 'full', 'local', 0n);

    let begun = performance.now();
    for (const text of texts) JSON.parse(text);
    const parse = microseconds(begun, each);

    begun = performance.now();
    for (const text of texts) shedBy.push(text, 'full', 'local', 0n);
    const shed = microseconds(begun, each);

    begun = performance.now();
    for (const [n, text] of texts.entries()) {
      judgedBy.push(text, 'http', 'local', 0n);
      if (n % few === few - 1) await judgedBy.idle();
    }
    await judgedBy.idle();
    const judged = microseconds(begun, each);

    begun = performance.now();
    for (const text of texts) judgedBy.push(text, 'other', 'local', 0n);
    const duplicate = microseconds(begun, each);

    const counts = { ...shedBy.counts(), ...judgedBy.counts() };
    if (counts.full?.shed !== each || counts.http?.decided !== each || counts.other?.duplicate !== each) {
      throw new Error(`not what was to be measured: ${JSON.stringify(counts)}`);
    }
    await shedBy.idle();
    if (round < 2) continue;
    took.parse.push(parse);
    took.shed.push(shed);
    took.judged.push(judged);
    took.duplicate.push(duplicate);
  }
  const floor = median(took.parse);
  const line = (what: string, values: readonly number[]): void =>
    say(`${what.padEnd(44)} ${median(values).toFixed(2).padStart(7)} µs   × ${(median(values) / floor).toFixed(2)}`);
  say(`an alert of ${alertOf(0, blocked).length} characters, medians of ${rounds} rounds of ${each}, : JSON.parse`);
  line('JSON.parse', took.parse);
  line('blocked already, the queue full: shed', took.shed);
  line('blocked already: judged, nothing to do', took.judged);
  line('the same over another way: one', took.duplicate);

  const intake = open();
  const before = process.memoryUsage().rss;
  let largest = before;
  const accused = new Set<string>();
  const begun = performance.now();
  for (let n = 0; n < flood; n++) {
    const who = attacker(65_536 + ((Math.imul(n, 2_654_435_761) >>> 8) % offenders));
    accused.add(who);
    intake.push(alertOf(n, who), n % 2 === 0 ? 'http' : 'grpc', 'local', 0n);
    if (n % 10_000 === 0) largest = Math.max(largest, process.memoryUsage().rss);
  }
  const pushed = performance.now() - begun;
  await intake.idle();
  const lost = [...accused].filter((who) => !blocklist.holds(parseAddress(who), 'enforce')).length;
  say(
    `\n${flood} alerts of ${accused.size} offenders in ${(pushed / 1_000).toFixed(1)} s without a pause: ${lost} not blocked`,
  );
  say(`memory: ${((largest - before) / 2 ** 20).toFixed(0)} MiB more at the most`);
  for (const [name, counts] of Object.entries(intake.counts())) say(`${name.padEnd(5)} ${JSON.stringify(counts)}`);
  if (lost > 0) process.exitCode = 1;
  alerts.endPeriod();
  await blocklist.settle();
  blocklist.close();
});
