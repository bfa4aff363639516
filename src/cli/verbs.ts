/** Names, options and help texts of the verbs. Data only: help and completion are made from it without loading a verb. */

export interface OptionText {
  /** As commander writes them: `--for <duration>`, `-y, --yes`. */
  readonly flags: string;
  readonly text: string;
  readonly choices?: readonly string[];
}

export interface VerbText {
  /** As commander writes them: `<target...>` one or more, `[target...]` any number. */
  readonly operands: string;
  readonly summary: string;
  readonly options: readonly OptionText[];
  /** After the options. */
  readonly details: string;
}

const yes: OptionText = { flags: '-y, --yes', text: 'do not ask' };

const config: OptionText = {
  flags: '--config <file>',
  text: 'configuration file (or FALCODROP_CONFIG; default /etc/falcodrop/falcodrop.yaml)',
};

/** Taken before the verb and after it. */
export const globalOptions: readonly OptionText[] = [
  { flags: '--json', text: 'answer in JSON, one object a line' },
  { flags: '--debug', text: 'show stack traces with errors (or FALCODROP_DEBUG=1)' },
  config,
];

export const verbs = {
  attach: {
    operands: '<interface...>',
    summary: 'put the XDP program on interfaces (root)',
    options: [
      { flags: '--xdp <mode>', text: 'where it runs', choices: ['auto', 'native', 'generic'] },
      { flags: '--addresses <count>', text: 'room for addresses, each family (first attach; default 262144)' },
      { flags: '--prefixes <count>', text: 'room for prefixes, each family (first attach; default 65536)' },
      { flags: '--check', text: 'change nothing: tell what would happen' },
      yes,
    ],
    details: `Attach to the ports that packets come in by: physical interfaces, not the VLAN or bridge above them.
Packets are dropped from then on whether or not any falcodrop runs. A first attach may reset the
interface for seconds; attaching again replaces the program without a gap.

Examples:
  falcodrop attach eth0 --check
  falcodrop attach eth0 eth1`,
  },
  detach: {
    operands: '[interface...]',
    summary: 'take the XDP program off interfaces (root)',
    options: [
      { flags: '--all', text: 'every interface' },
      { flags: '--purge', text: 'remove the maps too, and every block with them' },
      yes,
    ],
    details: 'Blocks stay in their maps, and are in force again after the next attach, unless --purge is given.',
  },
  status: {
    operands: '',
    summary: 'what is attached, counted and covered',
    options: [],
    details:
      'Coverage: whether packets to each interface with a global address or a default route meet the XDP program.',
  },
  block: {
    operands: '<target...>',
    summary: 'drop what comes from addresses or prefixes',
    options: [
      { flags: '--for <duration>', text: 'how long: 90s, 5m, 1h, 2d, 1w (default 1h)' },
      { flags: '--forever', text: 'without an end' },
      { flags: '--replace', text: 'set the end as given, also an earlier one' },
      { flags: '--reason <text>', text: 'why, for the system log' },
      { flags: '--monitor', text: 'count its packets, drop nothing' },
      { flags: '--force', text: 'although the guard refuses (root)' },
    ],
    details: `A second block extends and never shortens, unless --replace is given. The guard refuses what would cut you
or this host off: its own addresses, gateways, name servers, SSH sessions, private ranges (exit 3).
Dropped is what comes from the target; packets to it still leave.

Examples:
  falcodrop block 203.0.113.66
  falcodrop block 203.0.113.0/24 2001:db8::/32 --for 2d --reason 'scans'`,
  },
  unblock: {
    operands: '[target...]',
    summary: 'end blocks',
    options: [{ flags: '--all', text: 'every block there is' }, yes],
    details: 'Name what was blocked: an address inside a blocked prefix has no block of its own (exit 4).',
  },
  list: {
    operands: '',
    summary: 'all blocks',
    options: [],
    details: 'Sorted by address. Times are local; with --json they are UTC.',
  },
  show: {
    operands: '<target>',
    summary: 'whether an address or prefix is blocked, and by what',
    options: [],
    details: 'Ends with 4 when nothing blocks it.',
  },
  run: {
    operands: '',
    summary: "the daemon: take Falco's alerts and block offenders",
    options: [],
    details: 'Needs no capability: run it as the service user that "falcodrop attach" gave the maps to.',
  },
  replay: {
    operands: '<file>',
    summary: 'what would be decided about recorded alerts ("-" = stdin)',
    options: [
      {
        flags: '--own <prefixes>',
        text: "this host's addresses instead of the real ones, separated by commas; every host name is then ours",
      },
    ],
    details: `One alert a line, as Falco's file_output writes them. Changes nothing; now is each alert's own time.

Example:
  falcodrop replay alerts.jsonl --own 203.0.113.10,2001:db8:1::10`,
  },
  version: {
    operands: '',
    summary: 'versions of all parts',
    options: [],
    details: '',
  },
} as const satisfies Readonly<Record<string, VerbText>>;

export type VerbName = keyof typeof verbs;

/** Words of other tools, and the verb that does it here. */
export const otherWords: Readonly<Record<string, VerbName>> = {
  ban: 'block',
  unban: 'unblock',
  deny: 'block',
  drop: 'block',
  undrop: 'unblock',
  load: 'attach',
  unload: 'detach',
  ls: 'list',
  start: 'run',
  daemon: 'run',
};

export const exitStatuses = `Exit statuses:
  0 done, also when nothing had to change   3 refused by the guard
  1 failed                                  4 not there
  2 wrong usage, nothing was done           5 not permitted`;
