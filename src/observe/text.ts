/**
 * Text that somebody else wrote (an alert's rule, a reason) on its way to a log or a terminal: control characters would move
 * the reader's cursor or forge a line, bidirectional overrides would show another order than is there.
 */

/** Control, format (bidi, zero width), surrogates without a partner, private use, line and paragraph separators. */
const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const suspicious = /[^\x20-\x7e]/;

/** Cut to `longest` UTF-16 units, unsafe characters as \uXXXX. */
export function harmless(text: string, longest: number): string {
  const short = text.length > longest ? `${text.slice(0, longest - 1)}…` : text;
  return suspicious.test(short) ? short.replace(unsafe, escaped) : short;
}

/** One line of JSON, the same characters escaped: JSON itself escapes those below U+0020 alone. */
export function harmlessJson(value: unknown): string {
  const text = JSON.stringify(value);
  return suspicious.test(text) ? text.replace(unsafe, escaped) : text;
}

function escaped(character: string): string {
  let text = '';
  for (let i = 0; i < character.length; i++) text += `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`;
  return text;
}
