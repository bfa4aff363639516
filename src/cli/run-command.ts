/** From the words that were typed to an exit status. */
import { FalcodropError } from '../errors.ts';
import { wallClock } from '../time/clock.ts';
import type { Call } from './call.ts';
import { type Reading, readCommandLine } from './command.ts';
import { failureOf } from './failure.ts';
import { Answer } from './output/answer.ts';
import { wantsColour } from './output/colour.ts';
import type { VerbName } from './verbs.ts';

/** Each verb is loaded when it is used: `list` pays nothing for `run`. */
const load: Readonly<Record<VerbName, () => Promise<(call: Call) => Promise<void>>>> = {
  init: async () => (await import('./init.ts')).initConfig,
  check: async () => (await import('./check.ts')).checkConfig,
  attach: async () => (await import('./attach.ts')).attachInterfaces,
  detach: async () => (await import('./detach.ts')).detachInterfaces,
  sources: async () => (await import('./sources.ts')).showSources,
  'test-alert': async () => (await import('./test-alert.ts')).testAlert,
  status: async () => (await import('./status.ts')).showStatus,
  block: async () => (await import('./block.ts')).blockTargets,
  unblock: async () => (await import('./unblock.ts')).unblockTargets,
  list: async () => (await import('./list.ts')).listBlocks,
  show: async () => (await import('./show.ts')).showTarget,
  history: async () => (await import('./history.ts')).showHistory,
  import: async () => (await import('./import.ts')).importTargets,
  export: async () => (await import('./export.ts')).exportClaims,
  undo: async () => (await import('./undo.ts')).undoActions,
  backup: async () => (await import('./backup.ts')).backupLedger,
  restore: async () => (await import('./restore.ts')).restoreLedger,
  reconcile: async () => (await import('./reconcile.ts')).reconcileMaps,
  allow: async () => (await import('./allow.ts')).allow,
  protect: async () => (await import('./protect.ts')).protect,
  guard: async () => (await import('./guard-list.ts')).guardList,
  mode: async () => (await import('./mode.ts')).setMode,
  confirm: async () => (await import('./confirm.ts')).confirm,
  map: async () => (await import('./map.ts')).showMaps,
  watch: async () => (await import('./watch.ts')).watchDrops,
  run: async () => (await import('./run.ts')).run,
  replay: async () => (await import('./replay.ts')).replay,
  setup: async () => (await import('./setup.ts')).setup,
  rules: async () => (await import('./rules.ts')).rules,
  version: async () => (await import('./version.ts')).showVersion,
};

/** Sets `process.exitCode`, never exits: what is still on its way to a pipe gets there. */
export async function runCommand(argv: readonly string[]): Promise<void> {
  const environment = process.env;
  const { FALCODROP_DEBUG: debugging } = environment;
  // Known before the line is read: errors of reading it are answered in JSON too.
  const before = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  const answer = new Answer(process.stdout, process.stderr, {
    json: before.includes('--json'),
    colour: {
      out: wantsColour(process.stdout.isTTY, environment),
      error: wantsColour(process.stderr.isTTY, environment),
    },
    // A terminal that does not know how wide it is says 0.
    width: process.stdout.isTTY && process.stdout.columns > 0 ? process.stdout.columns : null,
    debug: before.includes('--debug') || (debugging !== undefined && debugging !== '' && debugging !== '0'),
  });

  let verb = '';
  // Of callbacks that nobody waits for: the state is unknown, so nothing goes on.
  process.on('uncaughtException', (error) => {
    answer.fail(failureOf(error, verb));
    process.exit(1);
  });
  // At the very end: that stdout could not be written to is heard of late.
  process.once('exit', () => {
    if (answer.status !== 0) process.exitCode = answer.status;
  });

  try {
    const reading = readCommandLine(argv);
    if ('verb' in reading) {
      verb = reading.verb;
      // Node takes it at once; what shows and what reads times need not know.
      if (reading.options.utc === true) environment.TZ = 'UTC';
      const work = await load[reading.verb]();
      await work({ ...reading, environment, answer, clock: wallClock });
    } else {
      explain(reading, answer);
    }
  } catch (error) {
    answer.fail(failureOf(error, verb));
  }
  await answer.flush();
}

function explain(reading: Exclude<Reading, { readonly verb: VerbName }>, answer: Answer): void {
  if ('text' in reading) {
    answer.line(reading.text);
    return;
  }
  if (answer.json) {
    answer.fail(new FalcodropError('usage', 'no verb was given', 'falcodrop --help lists them'));
    return;
  }
  answer.say(reading.help);
  answer.worsen(2);
}
