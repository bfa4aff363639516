/**
 * Nanoseconds of the XDP program for one packet, by the kernel's own clock over many runs of it (BPF_PROG_TEST_RUN): each kind of
 * source in turn with the floor (mode off: parsed, looked up nowhere), A B A B. Of prefixes many entries are met, for the kernel
 * lays out a trie's nodes one by one and a slow one must not hide.
 * Usage: verdict.ts [ROUNDS] [REPEAT]
 */
import { forEver, mode } from '../src/kernel/layout.ts';
import type { BpfProgram } from '../src/kernel/native.ts';
import { loadInstance } from '../src/kernel/object.ts';
import { frame, ipv4, ipv6 } from '../test/kernel/packets.ts';
import { openPlane } from '../test/kernel/plane.ts';
import { median, say } from './host.ts';

const rounds = Number(process.argv[2] ?? 11);
const repeat = Number(process.argv[3] ?? 100_000);
const entries = 16;

const plane = openPlane({ slot: 0 });
const program: BpfProgram = loadInstance((name) => plane.map(name), 1);

const packets = (family: 4 | 6, source: (n: number) => string): Buffer[] =>
  Array.from({ length: entries }, (_, n) =>
    frame(family, family === 4 ? ipv4({ source: source(n) }) : ipv6({ source: source(n) })),
  );

interface Case {
  readonly name: string;
  readonly returns: 1 | 2;
  readonly packets: readonly Buffer[];
}

function run(packet: Buffer, returns: number): number {
  const result = program.testRun({ data: packet, repeat });
  if (result.returnValue !== returns) throw new Error(`verdict ${result.returnValue}, not ${returns}`);
  return result.durationNs;
}

function measure(cases: readonly Case[]): void {
  for (const { name, returns, packets } of cases) {
    const floors: number[] = [];
    const seen: number[] = [];
    for (let round = 0; round < rounds; round++) {
      for (const packet of packets) {
        plane.configure({ mode: mode.MODE_OFF });
        floors.push(run(packet, 2));
        plane.configure({ mode: mode.MODE_ENFORCE });
        seen.push(run(packet, returns));
      }
    }
    // The slowest entry by its own median: a round that the scheduler spoilt is none.
    const slowest = Math.max(
      ...packets.map((_, at) => median(seen.filter((__, index) => index % packets.length === at))),
    );
    const [floor, middle] = [median(floors), median(seen)];
    say(
      `${name.padEnd(34)} ${String(middle).padStart(5)} ns   slowest entry ${String(slowest).padStart(5)} ns   floor ${floor} ns   × ${(middle / floor).toFixed(1)}`,
    );
  }
}

const v4 = (n: number): string => `203.0.${n}.7`;
const v6 = (n: number): string => `2001:db8:${n.toString(16)}::7`;
const clean: Case[] = [
  { name: 'IPv4, clean', returns: 2, packets: packets(4, (n) => `198.51.100.${n}`) },
  { name: 'IPv6, clean', returns: 2, packets: packets(6, (n) => `2001:db8:ffff::${n}`) },
];
const dropped = (what: string): Case[] => [
  { name: `IPv4, ${what}`, returns: 1, packets: packets(4, v4) },
  { name: `IPv6, ${what}`, returns: 1, packets: packets(6, v6) },
];

try {
  measure(clean);
  for (let n = 0; n < entries; n++) for (const target of [v4(n), v6(n)]) plane.put(target, { dropUntil: forEver });
  measure(dropped('address blocked'));
  plane.clear();
  for (let n = 0; n < entries; n++)
    for (const target of [`203.0.${n}.0/24`, `2001:db8:${n.toString(16)}::/48`])
      plane.put(target, { dropUntil: forEver });
  measure(clean.map((each) => ({ ...each, name: `${each.name}, prefixes there` })));
  measure(dropped('prefix blocked'));
} finally {
  program.close();
  plane.close();
}
