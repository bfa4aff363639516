/** One use of the command: what was typed and where, handed to the verb. */
import type { Clock } from '../time/clock.ts';
import type { Answer } from './output/answer.ts';
import type { VerbName } from './verbs.ts';

export interface Call {
  readonly verb: VerbName;
  /** The words after the verb that are no options. */
  readonly operands: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly environment: NodeJS.ProcessEnv;
  readonly answer: Answer;
  readonly clock: Clock;
}

export function flag(call: Call, name: string): boolean {
  return call.options[name] === true;
}

export function text(call: Call, name: string): string | undefined {
  const value = call.options[name];
  return typeof value === 'string' ? value : undefined;
}

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

export const defaultStateDir = '/var/lib/falcodrop';

/** `FALCODROP_STATE_DIR` or the default. */
export function stateDirOf(environment: NodeJS.ProcessEnv): string {
  const given = environment.FALCODROP_STATE_DIR;
  return given === undefined || given === '' ? defaultStateDir : given;
}
