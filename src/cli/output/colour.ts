/** Select Graphic Rendition (ECMA-48) of the few colours there are. */
const codes = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 } as const;

export type Colour = keyof typeof codes;

export function paint(text: string, colour: Colour | null, on: boolean): string {
  return on && colour !== null && text !== '' ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text;
}

/** Colour only on a terminal, and not where NO_COLOR is set to anything (no-color.org). */
export function wantsColour(isTerminal: boolean, environment: NodeJS.ProcessEnv): boolean {
  const { NO_COLOR, TERM } = environment;
  return isTerminal && (NO_COLOR === undefined || NO_COLOR === '') && TERM !== 'dumb';
}
