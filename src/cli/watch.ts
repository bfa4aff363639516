/**
 * `falcodrop watch drops`: the drop samples as they come. A running daemon reads the ring and hands them on; without one this
 * command is the reader, until a daemon comes.
 */

import { parseAddress } from '../address/address.ts';
import { contains, type Prefix } from '../address/prefix.ts';
import { askDaemon } from '../daemon/ask.ts';
import { type DropSample, dropSample, interfaceNames, readDropSample } from '../daemon/drop-sample.ts';
import { socketPath } from '../daemon/socket.ts';
import { FalcodropError } from '../errors.ts';
import { native } from '../kernel/native.ts';
import { ownerOfPins } from '../kernel/owner.ts';
import { pinDirOf, pinPaths } from '../kernel/pins.ts';
import { openSamples, type SampleReader } from '../kernel/samples.ts';
import { PinnedSet } from '../kernel/set.ts';
import { isAnswered } from '../sources/unix-socket.ts';
import { type Call, isRoot, stateDirOf, text } from './call.ts';
import { attachedHere, generalNotes } from './circumstance.ts';
import { readFilters } from './filter.ts';
import { becomeService } from './hand.ts';
import { clean } from './output/clean.ts';
import { type Colour, paint } from './output/colour.ts';
import { localClock } from './output/moment.ts';

/** How often it is looked whether a daemon has come, or the maps have gone. */
const lookEveryMs = 1_000;

/** At the begin the ring is waited for, that often and that long apart. */
const beginTries = 4;
const beginEveryMs = 400;

/** How often it is looked whether anybody reads what is said: samples may be far between. */
const readerEveryMs = 250;

/** For what is on its way when it ends. */
const lastWordMs = 500;

const columns = 80;

export async function watchDrops(call: Call): Promise<void> {
  const { operands } = call;
  if (operands.length !== 1 || operands[0] !== 'drops') {
    throw new FalcodropError('usage', 'it is not said what to watch', 'falcodrop watch drops');
  }
  const { within = null, limit = Number.POSITIVE_INFINITY } = readFilters(call);
  const pinDir = pinDirOf(call.environment);
  tellCircumstances(call, pinDir);
  // All that is left to do the service may, and what its daemon says is not read as root.
  const service = ownerOfPins(pinDir);
  if (isRoot() && service.uid !== 0) becomeService(service);

  const stop = stopper(call);
  try {
    const screen = openScreen(call, { within, limit, stop: stop.now });
    await watch(call, { pinDir, within, screen, signal: stop.signal });
    await screen.done();
  } finally {
    stop.release();
  }
}

/** What keeps samples from coming, or makes them mean less. */
function tellCircumstances({ answer, clock }: Call, pinDir: string): void {
  const set = new PinnedSet(pinDir);
  try {
    for (const { message } of generalNotes(set, attachedHere(pinDir), clock.now())) answer.note(message);
    if (set.settings.sampling === 0) answer.note('sampling is off: no samples come');
    else answer.note('of each block the 1st, 2nd, 4th, 8th … packet is told, with its number (#)');
  } finally {
    set.close();
  }
}

interface Watching {
  readonly pinDir: string;
  readonly within: Prefix | null;
  readonly screen: Screen;
  readonly signal: AbortSignal;
}

/** Until it is stopped: of the daemon while there is one, else of the ring while nobody else reads it. */
async function watch(call: Call, { pinDir, within, screen, signal }: Watching): Promise<void> {
  const socket = socketPath(stateDirOf(call.environment));
  const request = { verb: 'watch_drops', ...(within === null ? {} : { within: text(call, 'within') }) };
  const nameOf = interfaceNames();
  let tries = beginTries;
  let hasBegun = false;
  /** The daemon has ended, and that the samples are read without it was not said yet. */
  let isLeft = false;
  let busyTimes = 0;
  while (!signal.aborted) {
    const asked = await askDaemon(socket, request, (line) => take(line, screen), signal);
    if (signal.aborted) return;
    if (asked === 'ended') {
      screen.note('daemon_ended', 'the daemon has ended');
      hasBegun = true;
      isLeft = true;
    }
    const reader = openSamples(pinDir, (sample, dropNow) => {
      screen.show(dropSample(sample, { dropNow, wallMs: call.clock.now(), nameOf }));
    });
    if (reader === null) {
      // A daemon that begins has the ring before its socket.
      if (!hasBegun && --tries === 0) throw busy(pinDir);
      // Not the first time: of a process that was killed the socket goes before the lock.
      if (hasBegun && ++busyTimes === 2) {
        screen.note('samples_busy', 'another falcodrop reads the samples; waiting for it, or for the daemon');
      }
      await wait(hasBegun && busyTimes > 1 ? lookEveryMs : beginEveryMs, signal);
      continue;
    }
    hasBegun = true;
    busyTimes = 0;
    try {
      if (isLeft) screen.note('samples_read', 'the samples are read without it');
      isLeft = false;
      await untilAnother(reader, { socket, screen, signal });
    } finally {
      reader.close();
    }
  }
}

function busy(pinDir: string): FalcodropError {
  return new FalcodropError(
    'samples_busy',
    'another falcodrop watches the samples, and their ring has one reader',
    `end that one (fuser -v ${pinPaths(pinDir).samples}), or start the daemon: it hands them on to many`,
  );
}

/** Resolves when a daemon answers, the maps are others, or it is stopped. */
async function untilAnother(
  reader: SampleReader,
  { socket, screen, signal }: Pick<Watching, 'screen' | 'signal'> & { socket: string },
): Promise<void> {
  for (;;) {
    await wait(lookEveryMs, signal);
    if (signal.aborted) return;
    screen.lost(reader.lost());
    if (!reader.isCurrent()) {
      screen.note('maps_changed', 'the maps are no longer those that were watched');
      return;
    }
    if (!(await isAnswered(socket))) continue;
    if (!signal.aborted) screen.note('daemon_began', 'a daemon runs now: it reads the samples and hands them on');
    return;
  }
}

function take(line: Readonly<Record<string, unknown>>, screen: Screen): void {
  const { sample, lost, note, error } = line;
  const read = readDropSample(sample);
  if (read !== null) screen.show(read);
  if (typeof lost === 'number' && Number.isSafeInteger(lost)) screen.lost(lost);
  if (codeOf(note) === 'samples_busy') {
    screen.note('samples_busy', 'another falcodrop reads the samples; the daemon waits for it');
  }
  if (codeOf(error) === null) return;
  const { message } = error as { message?: unknown };
  const said = typeof message === 'string' ? clean(message, 300) : 'without a reason';
  throw new FalcodropError('failed', `the daemon refused: ${said}`, 'its log may tell more');
}

function codeOf(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return null;
  const { code } = value as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}

/** Signals, and the reader of our output going away, end it in silence. */
function stopper({ answer }: Call): {
  readonly signal: AbortSignal;
  readonly now: () => void;
  readonly release: () => void;
} {
  const controller = new AbortController();
  const now = (): void => controller.abort();
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of names) process.on(name, now);
  const stdout = 1;
  const timer = setInterval(() => {
    if (answer.closed || native().isHungUp(stdout)) now();
  }, readerEveryMs);
  return {
    signal: controller.signal,
    now,
    release: () => {
      clearInterval(timer);
      for (const name of names) process.off(name, now);
    },
  };
}

interface Screen {
  show(sample: DropSample): void;
  lost(count: number): void;
  note(code: string, message: string): void;
  done(): Promise<void>;
}

/** Lines for people or programs. Who reads slower than samples come loses some, and is told how many. */
function openScreen(
  { answer }: Call,
  { within, limit, stop }: { within: Prefix | null; limit: number; stop: () => void },
): Screen {
  let shown = 0;
  let lost = 0;
  let writing: Promise<void> | null = null;
  const write = (): void => {
    if (writing !== null) return;
    writing = answer.flush().then(() => {
      writing = null;
      if (lost > 0) tellLost();
      if (answer.closed) stop();
      else if (answer.pending) write();
    });
  };
  const note = (code: string, message: string, more: object = {}): void => {
    if (answer.json) answer.object({ note: { code, message, ...more } });
    else answer.note(message);
    write();
  };
  const tellLost = (): void => {
    const count = lost;
    lost = 0;
    note('samples_lost', `${count === 1 ? 'one sample was' : `${count} samples were`} lost: too many came at once`, {
      count,
    });
  };
  return {
    show(sample) {
      if (shown >= limit) return;
      if (within !== null && !contains(within, parseAddress(sample.source))) return;
      if (answer.full) {
        lost++;
        return;
      }
      shown++;
      if (answer.json) answer.object(sample);
      else for (const line of sampleLines(sample, answer.colour)) answer.line(line);
      write();
      if (shown >= limit) stop();
    },
    lost(count) {
      lost += Math.max(0, count);
      if (lost > 0 && !answer.full) tellLost();
    },
    note,
    done: async () => {
      // A reader that is stopped, or scrolls, would keep what was ended by a signal.
      const late = setTimeout(() => process.exit(), lastWordMs);
      while (writing !== null) await writing;
      clearTimeout(late);
    },
  };
}

const verdictColours: Readonly<Record<DropSample['verdict'], Colour>> = { dropped: 'red', counted: 'yellow' };

/** One line, or more where long addresses want them: none is wider than 80 columns. */
export function sampleLines(sample: DropSample, colour: boolean): string[] {
  const parts = [
    localClock(Date.parse(sample.at)),
    // A hidden character is six when it is shown.
    cut(clean(sample.interface ?? `if${sample.ifindex}`, 20), 24),
    sample.protocol,
    `${sample.length}`,
    endpoint(sample.source, sample.source_port),
    `> ${endpoint(sample.destination, sample.destination_port)}`,
  ];
  const verdict = verdictText(sample);
  const lines: string[] = [];
  let line = '';
  for (const part of [...parts, verdict]) {
    if (line !== '' && line.length + 1 + part.length > columns) {
      lines.push(line);
      line = '   ';
    }
    line += line === '' ? part : ` ${part}`;
  }
  lines.push(line);
  if (!colour) return lines;
  const last = lines.pop() ?? '';
  return [...lines, last.slice(0, last.length - verdict.length) + paint(verdict, verdictColours[sample.verdict], true)];
}

const cut = (text: string, longest: number): string =>
  text.length > longest ? `${text.slice(0, longest - 1)}…` : text;

function endpoint(address: string, port: number | null): string {
  if (port === null) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function verdictText({ verdict, reason, entry, source, packet }: DropSample): string {
  const why = { address: '', prefix: '', monitor: ' (monitor)', mode_monitor: ' (mode monitor)' }[reason];
  // The block holds the source: its length says which it is.
  const by = entry === source ? '' : ` by /${entry.split('/')[1]}`;
  return `${verdict}${by}${why} #${packet}`;
}
