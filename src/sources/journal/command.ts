/** How journalctl is called. */

export interface Selection {
  /** Units of the system's manager, with their suffix. */
  readonly units: readonly string[];
  /** Alternatives to the units; in each, every `FIELD=value` must hold. */
  readonly matches: readonly (readonly string[])[];
  /** Instead of the system's own journal. */
  readonly directory: string | null;
}

/** Where to begin. `boot`: at the beginning of this boot (what `--follow` does by itself). */
export type From =
  | { readonly cursor: string }
  | { readonly sinceSeconds: number }
  | { readonly boot: true }
  | { readonly all: true };

/**
 * Arguments of journalctl (systemd 236 and newer). Without `follow` it ends at the journal's end and shows entries of every
 * boot; with it, it shows this boot's alone: `--follow` implies `--boot`, which no option but `--merge` undoes, and that would
 * take other machines' entries too.
 *
 * Matches, not `--unit`: that one takes also what systemd itself says of the unit, and is AND'ed with other matches. Only
 * fields that begin with an underscore are journald's word; others are written by who sends the entry.
 */
export function journalctlArguments({ units, matches, directory }: Selection, from: From, follow: boolean): string[] {
  const groups = [...(units.length === 0 ? [] : [units.map((unit) => `_SYSTEMD_UNIT=${unit}`)]), ...matches];
  return [
    ...(directory === null ? [] : [`--directory=${directory}`]),
    ...(follow ? ['--follow', '--no-tail'] : []),
    '--output=json',
    '--output-fields=MESSAGE',
    // Without it a field of more than 4096 bytes is null: alerts are longer at times.
    '--all',
    '--no-pager',
    ...beginning(from),
    '--',
    ...groups.flatMap((group, index) => (index === 0 ? group : ['+', ...group])),
  ];
}

/** The entry of the cursor itself comes first: that is how it is known to be there. `--after-cursor` would not tell. */
function beginning(from: From): string[] {
  if ('cursor' in from) return [`--cursor=${from.cursor}`];
  if ('sinceSeconds' in from) return [`--since=@${Math.floor(from.sinceSeconds)}`];
  return [];
}
