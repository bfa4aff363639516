/** Counts that fit a column: `99999`, then three digits and a unit of a thousand (SI): `123k`, `1.23M`. */
const units = ['k', 'M', 'G', 'T', 'P', 'E'] as const;

export function amount(value: number): string {
  if (value < 100_000) return String(value);
  let rest = value;
  let unit = '';
  for (const next of units) {
    // what rounds to 1000 is the next unit's 1
    if (rest < 999.5) break;
    rest /= 1000;
    unit = next;
  }
  return `${rest < 9.995 ? rest.toFixed(2) : rest < 99.95 ? rest.toFixed(1) : Math.round(rest)}${unit}`;
}

/** `1 claim`, `2 claims`. */
export const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;
