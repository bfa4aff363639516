/**
 * Break-glass: how a machine comes up without drops when nobody can reach it over the network. Asked at every attach.
 *
 *   falcodrop=off, falcodrop=monitor   on the kernel's command line
 *   /etc/falcodrop/OFF                 a file beside the configuration
 *   three boots within 30 minutes      somebody, or a watchdog, resets it again and again: monitor
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readTrusted, writeTrusted } from './trusted.ts';

export type GlobalMode = 'enforce' | 'monitor' | 'off';

export interface Boot {
  readonly id: string;
  /** ms since 1970. */
  readonly at: number;
}

export interface Signs {
  readonly commandLine: string;
  readonly hasOffFile: boolean;
  /** The latest last, this one among them. */
  readonly boots: readonly Boot[];
}

export interface Glass {
  readonly mode: GlobalMode;
  /** One sentence; null when nothing was broken. */
  readonly why: string | null;
  /** The command that ends it, where one does. */
  readonly remedy: string | null;
}

const fileName = 'boots.json';

const manyBoots = 3;
const withinMs = 30 * 60_000;

/** Off before monitor; what was done by hand before what was counted. */
export function breakGlass({ commandLine, hasOffFile, boots }: Signs): Glass {
  const words = commandLine.split(/\s+/).filter((word) => word.startsWith('falcodrop='));
  const last = words.at(-1);
  const by = (mode: GlobalMode, why: string): Glass => ({ mode, why, remedy: null });
  if (last === 'falcodrop=off') return by('off', 'the kernel was started with falcodrop=off');
  if (hasOffFile) return by('off', 'there is a file OFF beside the configuration');
  if (last === 'falcodrop=monitor') return by('monitor', 'the kernel was started with falcodrop=monitor');
  const recent = boots.slice(-manyBoots);
  const [first] = recent;
  const latest = recent.at(-1);
  if (recent.length === manyBoots && first !== undefined && latest !== undefined) {
    const span = latest.at - first.at;
    if (span >= 0 && span <= withinMs) {
      const remedy = 'to drop again: falcodrop attach … --mode enforce';
      return { mode: 'monitor', why: 'it was started three times within 30 minutes', remedy };
    }
  }
  return { mode: 'enforce', why: null, remedy: null };
}

/**
 * Somebody is there and wants it to drop: of the boots only this one counts from now on. Root's part; true when they had broken
 * the glass, and do no more.
 */
export function forgetBoots({ stateDir, nowMs }: { stateDir: string; nowMs: number }): boolean {
  const boot = thisBoot(nowMs);
  const { why } = breakGlass({
    commandLine: '',
    hasOffFile: false,
    boots: withBoot(readBoots(stateDir), boot),
  });
  if (why === null) return false;
  try {
    writeTrusted(stateDir, fileName, JSON.stringify([boot]));
    return true;
  } catch {
    // a read-only state directory: what is written there holds
    return false;
  }
}

/** Adds this boot, keeping the latest ten; the same boot is one. */
export function withBoot(boots: readonly Boot[], boot: Boot): readonly Boot[] {
  return boots.some(({ id }) => id === boot.id) ? boots : [...boots, boot].slice(-10);
}

/** Root's part: reads the signs, and writes this boot down in the root-owned folder of the state directory. */
export function readSigns({
  configFile,
  stateDir,
  nowMs,
}: {
  configFile: string;
  stateDir: string;
  nowMs: number;
}): Signs {
  const boots = withBoot(readBoots(stateDir), thisBoot(nowMs));
  try {
    writeTrusted(stateDir, fileName, JSON.stringify(boots));
  } catch {
    // a read-only state directory: boots are not counted
  }
  return {
    commandLine: readFileSync('/proc/cmdline', 'utf8'),
    hasOffFile: existsSync(join(dirname(configFile), 'OFF')),
    boots,
  };
}

function thisBoot(nowMs: number): Boot {
  return { id: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(), at: nowMs };
}

function readBoots(stateDir: string): readonly Boot[] {
  try {
    const boots: unknown = JSON.parse(readTrusted(stateDir, fileName)?.toString() ?? '[]');
    if (!Array.isArray(boots)) return [];
    return boots.filter(
      (boot): boot is Boot => typeof boot?.id === 'string' && Number.isFinite(boot.at) && boot.id.length < 64,
    );
  } catch {
    return [];
  }
}
