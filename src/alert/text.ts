/**
 * The first `longest` UTF-16 units, as a text of its own. V8's slice keeps the whole that it was cut from in memory, so what is
 * kept for longer than the alert must not be one.
 */
export function shortText(text: string, longest: number): string {
  return text.length <= longest ? text : Buffer.from(text.slice(0, longest)).toString();
}
