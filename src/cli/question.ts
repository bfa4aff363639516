/** Questions before what may cut somebody off, or cannot be undone. */
import { createInterface } from 'node:readline/promises';
import { FalcodropError } from '../errors.ts';
import { type Call, flag } from './call.ts';

/**
 * Returns when the answer was yes, or `--yes` was given. Throws `question_without_terminal` when nobody can be asked, and
 * `declined` for every other answer. Asked on stderr: stdout is for answers of ours.
 */
export async function ask(call: Call, question: string): Promise<void> {
  if (flag(call, 'yes')) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new FalcodropError(
      'question_without_terminal',
      `${question} (there is no terminal to answer on; nothing was done)`,
      'say --yes to do it without being asked',
    );
  }
  await call.answer.flush();
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await lines.question(`${question} [y/N] `);
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    lines.close();
  }
  throw new FalcodropError('declined', 'nothing was done', 'answer y, or give --yes');
}
