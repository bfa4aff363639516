/** The first configuration: what is set, and every other setting with its default, commented out. */
import { printFirst } from './print.ts';
import { schema } from './schema.ts';
import { shapeOf } from './shape.ts';

export interface First {
  readonly interfaces: readonly string[];
  /** Where editors find what may be set; null = nobody knows. */
  readonly schemaFile: string | null;
}

/** The text of the file. A `#` before a key comments a setting out; `# ` begins a remark. */
export function firstConfiguration({ interfaces, schemaFile }: First): string {
  const head = [
    ...(schemaFile === null ? [] : [`# yaml-language-server: $schema=${schemaFile}`]),
    '# The configuration of falcodrop. What is not set has its default; a "#" right before a key comments it out.',
    '# Files conf.d/*.yaml beside this one are laid over it. "falcodrop check" tells what is wrong.',
  ];
  const given = { interfaces, automatic: 'monitor' };
  return `${[...head, ...printFirst(shapeOf(schema), given)].join('\n')}\n`;
}
