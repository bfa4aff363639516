/** Writes docs/cli.md from src/cli/verbs.ts. Usage: node scripts/cli-doc.ts; a test compares. */
import { writeFileSync } from 'node:fs';
import { exitStatuses, globalOptions, type OptionText, type VerbText, verbs } from '../src/cli/verbs.ts';

const code = (text: string): string => text.replaceAll('|', '\\|');

function optionRow({ flags, text, choices }: OptionText): string {
  return `| \`${code(flags)}\` | ${code(text)}${choices === undefined ? '' : `: ${choices.join(', ')}`} |`;
}

function optionTable(options: readonly OptionText[]): string {
  return ['| option | |', '|---|---|', ...options.map(optionRow)].join('\n');
}

function section([name, verb]: [string, VerbText]): string {
  const [prose = '', examples] = verb.details.split(/\n\nExamples?:\n/);
  const parts = [`## falcodrop ${name}${verb.operands === '' ? '' : ` ${verb.operands}`}`, `${verb.summary}.`];
  if (prose !== '' && !prose.startsWith('Example')) parts.push(prose);
  if (verb.options.length > 0) parts.push(optionTable(verb.options));
  if (examples !== undefined) parts.push(`\`\`\`sh\n${examples.replaceAll(/^ {2}/gm, '')}\n\`\`\``);
  return parts.join('\n\n');
}

export function cliDocument(): string {
  return `${[
    '# The command',
    'Made from `src/cli/verbs.ts` by `node scripts/cli-doc.ts`.',
    `\`\`\`text\n${exitStatuses}\n\`\`\``,
    'With several targets all arguments are checked first (2, and nothing is done), then they are done one by one; the worst\nstatus wins in the order 1, 5, 3, 4, 0. Errors are one line each, or with `--json` one object each: `code`, `message`,\n`hint`, and for a refusal by the guard `reason`.',
    'Options of every verb:',
    optionTable(globalOptions),
    ...Object.entries(verbs).map(section),
  ].join('\n\n')}\n`;
}

if (import.meta.main) writeFileSync(new URL('../docs/cli.md', import.meta.url), cliDocument());
