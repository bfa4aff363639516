/** The command line: read with commander, the verb loaded when it is used. */
import { Command, CommanderError, Option } from 'commander';
import { FalcodropError } from '../errors.ts';
import { release } from './release.ts';
import {
  exitStatuses,
  globalOptions,
  type OptionText,
  otherWords,
  type VerbName,
  type VerbText,
  verbs,
} from './verbs.ts';

export interface Parsed {
  readonly verb: VerbName;
  readonly operands: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
}

/** The verb to run; or a text that was asked for (help, the version); or the help of who typed nothing. */
export type Reading = Parsed | { readonly text: string } | { readonly help: string };

/** Columns; of every terminal. */
const helpWidth = 80;

/** Paragraphs broken anew; lines that are indented (examples) stay as they are. */
export function refill(text: string, width: number): string {
  const lines: string[] = [];
  let line = '';
  const finish = (): void => {
    if (line !== '') lines.push(line);
    line = '';
  };
  for (const source of text.split('\n')) {
    if (source === '' || source.startsWith(' ')) {
      finish();
      lines.push(source);
      continue;
    }
    for (const word of source.split(' ')) {
      if (line !== '' && line.length + 1 + word.length > width) finish();
      line = line === '' ? word : `${line} ${word}`;
    }
    // What introduces examples stands alone.
    if (source.endsWith(':')) finish();
  }
  finish();
  return lines.join('\n');
}

/** `argv` without Node and script. Throws `usage`, naming the nearest right word. */
export function readCommandLine(argv: readonly string[]): Reading {
  let shown = '';
  let chosen: Parsed | null = null;
  const program = new Command('falcodrop')
    .description('Falco sees the attack, falcodrop drops the attacker at the NIC driver.')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => {
        shown += text;
      },
      writeErr: (text) => {
        shown += text;
      },
      getOutHelpWidth: () => helpWidth,
      getErrHelpWidth: () => helpWidth,
      outputError: () => undefined,
    })
    .version(release, '-V, --version', 'the version alone')
    .enablePositionalOptions()
    .showSuggestionAfterError();
  addOptions(program, globalOptions);
  program.addHelpText('after', `\n${exitStatuses}`);
  for (const [name, verb] of Object.entries(verbs) as [VerbName, VerbText][]) {
    const command = program.command(`${name} ${verb.operands}`.trim()).summary(verb.summary);
    command.description(`${verb.summary[0]?.toUpperCase()}${verb.summary.slice(1)}.`);
    addOptions(command, verb.options);
    addOptions(command, globalOptions);
    if (verb.details !== '') command.addHelpText('after', `\n${refill(verb.details, helpWidth)}`);
    command.action(() => {
      chosen = { verb: name, operands: command.args, options: { ...program.opts(), ...command.opts() } };
    });
  }
  try {
    program.parse(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { text: shown.trimEnd() };
    if (error.code === 'commander.help') return { help: shown.trimEnd() };
    throw usageError(error, program.args);
  }
  if (chosen === null) return { help: program.helpInformation().trimEnd() };
  return chosen;
}

function addOptions(command: Command, options: readonly OptionText[]): void {
  for (const { flags, text, choices } of options) {
    const option = new Option(flags, text);
    if (choices !== undefined) option.choices(choices);
    command.addOption(option);
  }
}

/** `error: unknown option '--fro'\n(Did you mean --for?)` in our form. */
function usageError(error: CommanderError, words: readonly string[]): FalcodropError {
  const [first = '', second = ''] = error.message.split('\n');
  const message = first.replace(/^error: /, '');
  const word = words[0] ?? '';
  if (error.code === 'commander.unknownCommand' && Object.hasOwn(otherWords, word)) {
    const verb = otherWords[word] ?? '';
    return new FalcodropError('usage', `there is no verb ${word} here`, `it is "falcodrop ${verb}"`, error);
  }
  const meant = /^\(Did you mean (.*)\?\)$/.exec(second)?.[1];
  const verb = Object.hasOwn(verbs, word) ? ` ${word}` : '';
  return new FalcodropError(
    'usage',
    message.replace(/\.$/, '').replace('unknown command', 'there is no verb'),
    meant === undefined ? `falcodrop${verb} --help tells how it is used` : `did you mean ${meant}?`,
    error,
  );
}
