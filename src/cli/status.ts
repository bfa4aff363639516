/** `falcodrop status` */
import type { SourceReport } from '../daemon/sources.ts';
import { FalcodropError } from '../errors.ts';
import { readDumps } from '../host/carrier.ts';
import type { Attachment } from '../kernel/attach.ts';
import { type CountKind, countKinds, readCounters, type Total } from '../kernel/counters.ts';
import { type ModeNow, modeNow, wentBack } from '../kernel/mode.ts';
import { objectDigest } from '../kernel/object.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { blockMapNames, PinnedSet } from '../kernel/set.ts';
import { type Call, stateDirOf } from './call.ts';
import { attachedHere, modeText } from './circumstance.ts';
import { type Coverage, coverage } from './coverage.ts';
import { amount } from './output/amount.ts';
import { clean } from './output/clean.ts';
import { paint } from './output/colour.ts';
import { endAt, wholeSeconds } from './output/entry.ts';
import { roughly } from './output/moment.ts';
import { table } from './output/table.ts';
import { askSources, becomeReader } from './source-reports.ts';
import { silenceOf } from './sources.ts';

interface MapFill {
  readonly map: string;
  /** Ended ones too, until they are reaped: they take up room. */
  readonly entries: number;
  readonly capacity: number;
}

interface Pinned {
  readonly format: number;
  readonly mode: ModeNow;
  readonly wentBack: ReturnType<typeof wentBack>;
  readonly maps: readonly MapFill[];
  readonly counters: readonly { readonly attachment: Attachment; readonly counts: Record<CountKind, Total> }[];
}

export async function showStatus(call: Call): Promise<void> {
  const { answer, clock } = call;
  const pinDir = pinDirOf(call.environment);
  const attached = attachedHere(pinDir);
  const pinned = readPinned(pinDir, attached);
  const covered = coverage(readDumps(), new Set(attached.map(({ ifindex }) => ifindex)));
  const digest = installedDigest();
  const nowMs = clock.now();
  // All that wants root is read.
  const sources = await readSources(call);

  if (answer.json) {
    answer.object({
      pin_dir: pinDir,
      format: pinned?.format ?? null,
      mode: pinned?.mode.mode ?? null,
      mode_ends_at: pinned == null ? null : endAt(pinned.mode.seconds, nowMs),
      mode_ends_in_seconds: pinned == null ? null : wholeSeconds(pinned.mode.seconds),
      mode_after: pinned?.mode.after ?? null,
      object_sha256: digest,
      maps: pinned?.maps ?? [],
      interfaces: (pinned?.counters ?? []).map(({ attachment: { name, ifindex, mode, slot, programId }, counts }) => ({
        interface: name,
        ifindex,
        xdp: mode,
        slot,
        program_id: programId,
        counters: Object.fromEntries(countKinds.map((kind) => [kind.toLowerCase(), counts[kind]])),
      })),
      coverage: covered.map(({ name, ...rest }) => ({ interface: name, ...rest })),
      sources:
        sources?.map(({ name, state, isSilent, silentMs, usualSilenceMs }) => ({
          source: name,
          state,
          silent: isSilent,
          silent_seconds: silentMs === null ? null : Math.round(silentMs / 1000),
          usual_silence_seconds: usualSilenceMs === null ? null : Math.round(usualSilenceMs / 1000),
        })) ?? null,
    });
    return;
  }

  answer.line(`pins      ${pinDir}${pinned === null ? ': nothing was attached there' : `, format ${pinned.format}`}`);
  if (pinned !== null) answer.line(`mode      ${modeLine(pinned, nowMs)}`);
  answer.line(`object    ${digest ?? 'not built'}`);
  const attachedText = attached.map((one) => `${clean(one.name)} (${one.mode})`).join(', ');
  answer.line(`attached  ${attachedText === '' ? 'nothing' : attachedText}`);
  if (sources !== null) describeSources(call, sources);
  if (pinned !== null) describePinned(call, pinned);
  describeCoverage(call, covered);
}

/** All else is told without a daemon. */
const patienceMs = 1_000;

/** Null: no daemon answers, or not to this user. */
async function readSources(call: Call): Promise<SourceReport[] | null> {
  becomeReader(call);
  try {
    return await askSources(stateDirOf(call.environment), patienceMs);
  } catch (error) {
    if (error instanceof FalcodropError) return null;
    throw error;
  }
}

function describeSources({ answer }: Call, sources: readonly SourceReport[]): void {
  const text = sources.map(({ name, state }) => `${clean(name, 80)} (${clean(state, 20)})`).join(', ');
  answer.line(`sources   ${text === '' ? 'none' : text}`);
  for (const source of sources) {
    const { name, state, problem } = source;
    if (state === 'failed') {
      const why = problem === null ? '' : `: ${clean(problem.message, 200)}`;
      answer.line(`warning   ${clean(name, 80)} has failed${why}`);
    }
    const silence = silenceOf(source);
    if (silence !== null) answer.line(`warning   ${silence}: falcodrop sources, falcodrop test-alert`);
  }
}

function modeLine({ mode, wentBack: back }: Pinned, nowMs: number): string {
  const text = modeText(mode, nowMs);
  if (mode.after !== null) return `${text}, unless: falcodrop confirm`;
  return back === null ? text : `${text}, by itself for ${roughly(back.secondsAgo)}: ${back.from} was not confirmed`;
}

function describePinned({ answer }: Call, { maps, counters }: Pinned): void {
  answer.line('');
  const rows = () => maps.map(({ map, entries, capacity }) => [map, String(entries), String(capacity)]);
  const fill = [{ title: 'MAP' }, { title: 'ENTRIES', right: true }, { title: 'CAPACITY', right: true }];
  for (const line of table(fill, rows, answer.colour)) answer.line(line);

  for (const { attachment, counts } of counters) {
    answer.line('');
    const met = countKinds.filter((kind) => counts[kind].packets > 0);
    if (met.length === 0) {
      answer.line(`${clean(attachment.name)}: no packet yet`);
      continue;
    }
    const columns = [
      { title: attachment.name.toUpperCase() === attachment.name ? attachment.name : `ON ${attachment.name}` },
      { title: 'PACKETS', right: true },
      { title: 'BYTES', right: true },
    ];
    const lines = () =>
      met.map((kind) => [
        kind.toLowerCase().replaceAll('_', ' '),
        amount(counts[kind].packets),
        amount(counts[kind].bytes),
      ]);
    for (const line of table(columns, lines, answer.colour, answer.width)) answer.line(line);
  }
}

function describeCoverage({ answer }: Call, covered: readonly Coverage[]): void {
  answer.line('');
  if (covered.length === 0) {
    answer.line('no interface has a global address or a default route');
    return;
  }
  const rows = () =>
    covered.map((one) => [one.name, one.covered ? 'yes' : one.reason === 'containers' ? '-' : 'no', whyText(one)]);
  const columns = [
    { title: 'INTERFACE' },
    {
      title: 'COVERED',
      colour: (cell: string) => (cell === 'yes' ? ('green' as const) : cell === 'no' ? ('red' as const) : null),
    },
    { title: 'WHY' },
  ];
  for (const line of table(columns, rows, answer.colour)) answer.line(paint(line, null, false));
}

function whyText({ name, reason, through }: Coverage): string {
  const names = through.join(', ');
  switch (reason) {
    case 'attached':
      return 'attached';
    case 'lower_attached':
      return `its packets come in by ${names}, attached`;
    case 'master_attached':
      return `a port of ${names}, which is attached`;
    case 'ports_partly_attached':
      return `not all its ports are attached: falcodrop attach ${through.join(' ')}`;
    case 'containers':
      return "only this host's containers are behind it";
    case 'no_ethernet_header':
      return names === ''
        ? 'no Ethernet header: attach to the interface its packets come in by'
        : `no Ethernet header: falcodrop attach ${through.join(' ')}`;
    case 'not_attached':
      return `not attached: falcodrop attach ${names === '' ? name : through.join(' ')}`;
  }
}

/** Null where nothing was ever attached with this pin directory. */
function readPinned(pinDir: string, attached: readonly Attachment[]): Pinned | null {
  let set: PinnedSet;
  try {
    set = new PinnedSet(pinDir);
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'pin_dir_missing') return null;
    throw error;
  }
  try {
    return {
      format: set.settings.format,
      mode: modeNow(set.settings),
      wentBack: wentBack(set.settings),
      maps: blockMapNames.map((map) => {
        let entries = 0;
        for (const _ of set.entries(map)) entries++;
        return { map, entries, capacity: set.blockMap(map).info.maxEntries };
      }),
      counters: attached.map((attachment) => ({ attachment, counts: readCounters(set, attachment.slot) })),
    };
  } finally {
    set.close();
  }
}

function installedDigest(): string | null {
  try {
    return objectDigest();
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'addon_missing') return null;
    throw error;
  }
}
