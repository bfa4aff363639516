/** Text that somebody else wrote (an alert's rule, a program's name) on its way to a terminal. */
import { harmless } from '../../observe/text.ts';

export { harmlessJson as jsonLine } from '../../observe/text.ts';

/** Cut to `longest` UTF-16 units, control and format characters as \uXXXX. */
export function clean(text: string, longest = 200): string {
  return harmless(text, longest);
}
