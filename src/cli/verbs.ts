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

const dryRun: OptionText = { flags: '--dry-run', text: 'change nothing: tell what would be done' };

const revertAfter: OptionText = {
  flags: '--revert-after <duration>',
  text: 'it undoes itself then, by the kernel alone, unless: falcodrop confirm',
};

/** One grammar for all that lists or chooses. */
const chooseBy: readonly OptionText[] = [
  { flags: '--within <prefix>', text: 'targets that lie in it whole' },
  { flags: '--owner <owner>', text: 'hand, policy, policy:NAME, feed or feed:NAME' },
  { flags: '--rule <name>', text: 'of alerts of this Falco rule' },
  { flags: '--since <time>', text: 'begun then or later: 2026-11-22T14:00:00Z, today 14:00, 15m (ago)' },
  { flags: '--until <time>', text: 'begun before then' },
  { flags: '--mode <mode>', text: 'what drops, or what only counts', choices: ['enforce', 'monitor'] },
];
const limit: OptionText = { flags: '--limit <count>', text: 'so many at most' };

/** Which Falco, and where. */
const falco: readonly OptionText[] = [
  { flags: '--falco-dir <dir>', text: 'what Falco reads (default /etc/falco; of a container: what is mounted there)' },
  { flags: '--falco <path>', text: 'the falco binary (default: of PATH)' },
  { flags: '--falco-version <version>', text: 'which version it is, instead of asking it: 0.43.1' },
];

const times = `Times: RFC 3339, a day, "today 14:00", "yesterday 09:30", "14:00" (the last one that was), or how long ago: 15m, 2d.
What has no offset is local, or UTC with --utc.`;

/** Taken before the verb and after it. */
export const globalOptions: readonly OptionText[] = [
  { flags: '--json', text: 'answer in JSON, one object a line' },
  { flags: '--utc', text: 'times in UTC, those that are shown and those that are given (JSON always is)' },
  { flags: '--debug', text: 'show stack traces with errors (or FALCODROP_DEBUG=1)' },
  config,
];

export const verbs = {
  init: {
    operands: '',
    summary: 'write a first configuration',
    options: [
      { flags: '--interface <name>', text: 'what packets come in by (default: the interface with the default route)' },
      { flags: '--force', text: 'although there is one; the old is kept beside it, as .bak' },
      dryRun,
    ],
    details: `Writes /etc/falcodrop/falcodrop.yaml (or --config): the interface, automatic
blocks that only watch, and every other setting with its default, commented out.
The address from which you are here over SSH is allowed, in allow.d/00-init
beside it: it can not be cut off.

Examples:
  falcodrop init --dry-run
  falcodrop init --interface eth0`,
  },
  check: {
    operands: '',
    summary: 'what is wrong with the configuration',
    options: [{ flags: '--print', text: 'what holds, as YAML, and where each setting comes from' }],
    details: `Reads the file, conf.d/*.yaml beside it, and the environment, and tells every
problem at once: file, line and column or the variable, what is expected, and
the nearest right name. Allow files are checked too. Ends with 0 when all is
right and with 2 when it is not; warnings (no such interface, no service user)
change nothing.

Examples:
  falcodrop check
  falcodrop check --config ./falcodrop.yaml --print
  FALCODROP_HTTP__PORT=2805 falcodrop check --print`,
  },
  attach: {
    operands: '[interface...]',
    summary: 'put the XDP program on interfaces (root)',
    options: [
      { flags: '--xdp <mode>', text: 'where it runs', choices: ['auto', 'native', 'generic'] },
      { flags: '--addresses <count>', text: 'room for addresses, each family (first attach; default 262144)' },
      { flags: '--prefixes <count>', text: 'room for prefixes, each family (first attach; default 65536)' },
      {
        flags: '--mode <mode>',
        text: 'enforce: drop again after three starts within 30 minutes',
        choices: ['enforce'],
      },
      revertAfter,
      { flags: '--check', text: 'change nothing: tell what would happen' },
      yes,
    ],
    details: `Attach to the ports that packets come in by: physical interfaces, not the VLAN or bridge above them.
Without a name those of "interfaces:" in the configuration are taken.
Packets are dropped from then on whether or not any falcodrop runs. A first attach may reset the
interface for seconds; attaching again replaces the program without a gap.

Examples:
  falcodrop attach eth0 --check
  falcodrop attach eth0 eth1
  falcodrop attach eth0 --revert-after 2m && falcodrop confirm`,
  },
  detach: {
    operands: '[interface...]',
    summary: 'take the XDP program off interfaces (root)',
    options: [
      { flags: '--all', text: 'every interface' },
      { flags: '--purge', text: 'remove the maps too, and every block with them' },
      dryRun,
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
  sources: {
    operands: '',
    summary: 'the ways alerts come in by: state, rate, lag, last alert, last error',
    options: [],
    details: `A line a source, as the running daemon tells of it; below what was not taken, and what went wrong last. FOR: how long it
is in that state; /MIN: received in the last minute; LAG: what is there and was not read yet; LAST: how long ago
the last alert came. "silent": for longer than its own habit (docs/sources.md). Without a daemon it tells of the
last alerts that the last one saw, and ends with 4.

Examples:
  falcodrop sources
  falcodrop sources --json`,
  },
  'test-alert': {
    operands: '',
    summary: 'a harmless alert, to see that the whole way works',
    options: [
      { flags: '--source <name>', text: 'through this one of "falcodrop sources" (default: the first that takes one)' },
      { flags: '--through-falco', text: 'a connection to a canary port instead, of which Falco makes an alert' },
      { flags: '--port <port>', text: 'that canary port (default 2323)' },
      { flags: '--timeout <duration>', text: 'how long the alert may take (default 10s)' },
      { flags: '--cert <file>', text: 'what to show where HTTP asks for a certificate of a client' },
      { flags: '--key <file>', text: 'its private key' },
    ],
    details: `Sends an alert of the rule "Falcodrop Test Alert" about a documentation address that nobody has blocked, the way that
others come: over HTTP with its secrets, as a line of the file, as an entry of the journal (root). It is judged as any
alert, and makes a claim that only counts and ends within 10 s, whatever the configuration says; it is withdrawn as
soon as it was seen. Every step is told with its time: sent, received, decided, in the map, recorded, withdrawn. Ends
with 0, or with an error that names the step that failed (test_not_…) and the way out. In a timer: exit status and stderr.

A source that is asked (gRPC) takes no alerts from others: --through-falco. There the client is this host, which is never
blocked; that the guard refuses it is how it ends well.

Examples:
  falcodrop test-alert
  falcodrop test-alert --source file:/var/log/falco/events.json
  falcodrop test-alert --through-falco`,
  },
  block: {
    operands: '<target...>',
    summary: 'drop what comes from addresses or prefixes',
    options: [
      { flags: '--for <duration>', text: 'how long: 90s, 5m, 1h, 2d, 1w (default 1h)' },
      { flags: '--forever', text: 'without an end' },
      { flags: '--replace', text: 'set the end as given, also an earlier one' },
      { flags: '--reason <text>', text: 'why, for the history' },
      { flags: '--monitor', text: 'count its packets, drop nothing' },
      { flags: '--port <ports>', text: 'only what is for these local ports: tcp/22,tcp/2222 (at most 16)' },
      revertAfter,
      { flags: '--force', text: 'although the guard refuses (root)' },
      dryRun,
    ],
    details: `A second block extends and never shortens, unless --replace is given. The guard refuses what would cut you
or this host off: its own addresses, gateways, name servers, SSH sessions, private ranges (exit 3).
Dropped is what comes from the target; packets to it still leave.

Examples:
  falcodrop block 203.0.113.66
  falcodrop block 203.0.113.0/24 2001:db8::/32 --for 2d --reason 'scans'
  falcodrop block 203.0.113.0/24 --port tcp/22 --for 1d
  falcodrop block 198.51.100.0/24 --revert-after 2m && falcodrop confirm`,
  },
  unblock: {
    operands: '[target...]',
    summary: 'end blocks',
    options: [
      { flags: '--all', text: 'every block there is' },
      { flags: '--all-claims', text: "feeds' claims too" },
      ...chooseBy,
      dryRun,
      yes,
    ],
    details: `Name what was blocked: an address inside a blocked prefix has no block of its own (exit 4). Instead of targets,
filters choose them; then it asks, with their number. Ended are the claims of hands and policies: a feed's
claim goes on, and drops, unless --all-claims or --owner feed:NAME is given.

${times}

Examples:
  falcodrop unblock 203.0.113.66
  falcodrop unblock --owner policy --rule 'Inbound SSH Connection' \\
    --since 'today 14:00' --dry-run
  falcodrop unblock --within 203.0.113.0/24 --yes`,
  },
  list: {
    operands: '',
    summary: 'all blocks',
    options: [
      ...chooseBy,
      { flags: '--sort <by>', text: 'in which order', choices: ['address', 'packets', 'bytes', 'end', 'begin'] },
      limit,
    ],
    details: `Sorted by address; by packets and bytes the most come first, by end the soonest, by begin the newest.
Every claim on a target is told: whose, what it does, until when, and why. Filters compare claims.

${times}

Examples:
  falcodrop list --sort packets --limit 20
  falcodrop list --owner policy --mode monitor --json`,
  },
  show: {
    operands: '<target>',
    summary: 'whether an address or prefix is blocked, and by what',
    options: [],
    details: 'Ends with 4 when nothing blocks it. Tells every claim on it: whose, what it does, until when, and why.',
  },
  allow: {
    operands: '<action> [target...]',
    summary: 'what always passes, whatever is blocked: add, remove, list (root)',
    options: [
      { flags: '--for <duration>', text: 'add: how long: 90s, 5m, 1h, 2d, 1w (default: no end)' },
      { flags: '--until <time>', text: 'add: until then: 2026-11-22T14:00:00Z, 18:00 (the next one)' },
      { flags: '--reason <text>', text: 'why, for the file and the history' },
      { flags: '--force', text: 'add: also what is wider than /8, or /16 of IPv6' },
    ],
    details: `An allow outranks every block, in the kernel, to its own end: adding one frees what it covers at once. Blocks stay as
claims, and drop again when the allow is gone. A second add extends and never shortens: remove it first.

It is written to allow.d/10-hand beside the configuration. Other files there are yours: one target a line,
"TARGET until=2026-11-22T14:00:00Z force # reason", then falcodrop protect. A file with a bad line is refused
whole, each line is named, and what it said before stays.

Examples:
  falcodrop allow add 203.0.113.0/24 --for 8h --reason 'pentest, ticket 4711'
  falcodrop allow remove 203.0.113.0/24
  falcodrop allow list`,
  },
  protect: {
    operands: '',
    summary: 'bring what always passes into the kernel (root)',
    options: [dryRun],
    details: `Makes the kernel's allows equal to the files of allow.d, the networks of "management" in the configuration, this host's
gateways and its name servers, and the ports that are never dropped to "never_drop_ports". Adds first and takes away
last, so that no moment is without. "attach" and "allow" do it too; run it after a change of the network, a file, or
the clock.`,
  },
  guard: {
    operands: '<action>',
    summary: 'all that is protected, from where, and whether the kernel has it: list',
    options: [],
    details: `KERNEL says whether packets pass whatever is blocked: yes, not yet (no), or that it is no matter of the kernel (-):
that is refused when somebody blocks it.

Example:
  falcodrop guard list`,
  },
  mode: {
    operands: '<mode>',
    summary: 'enforce, monitor or off: one switch for all blocks (root)',
    options: [revertAfter, { flags: '--reason <text>', text: 'why, for the audit' }],
    details: `enforce drops; monitor counts what it would drop; off looks nothing up: the panic switch, which needs neither ledger nor
configuration nor daemon. Blocks stay in their maps. What is pending (--revert-after) is not lost by a second "mode",
which says so; only off without an end stays off. It holds until the maps are made anew, after a reboot: a file OFF
beside the configuration is for longer.

Examples:
  falcodrop mode off
  falcodrop mode enforce --revert-after 60s && falcodrop confirm`,
  },
  confirm: {
    operands: '',
    summary: 'what would undo itself stays (--revert-after)',
    options: [],
    details: 'Ends with 4 when it is too late, or nothing waits. What the mode went back to by itself is told.',
  },
  history: {
    operands: '[target]',
    summary: 'what was done, by whom and why, the newest first',
    options: [...chooseBy, limit],
    details: `Of a target: what was done to it, to what lies in it, and to what holds it. --since and --until are about when it
happened. A set (an import, a feed) is one row with a count.

${times}

Examples:
  falcodrop history 203.0.113.66
  falcodrop history --since yesterday --owner hand
  falcodrop history --rule 'Inbound SSH Connection' --limit 50 --json`,
  },
  import: {
    operands: '<file>',
    summary: 'block what a file names ("-" = stdin)',
    options: [
      { flags: '--for <duration>', text: 'how long, where a line does not say: 90s, 5m, 1h, 2d, 1w (default 1h)' },
      { flags: '--forever', text: 'without an end; the default with --feed' },
      { flags: '--monitor', text: 'count packets, drop nothing' },
      { flags: '--reason <text>', text: 'why, for the history' },
      { flags: '--feed <name>', text: 'whose claims they are: feed:NAME' },
      { flags: '--replace', text: "make the feed's set equal to the file: what it lacks is withdrawn" },
      dryRun,
      yes,
    ],
    details: `One target a line; "#" begins a comment. Or JSON lines, as "falcodrop export" writes them: their owner, mode and end are
kept. All lines are read before anything is done: with a bad one nothing is (exit 2), and each is named. What
the guard refuses is named and left out, the rest is done (exit 3). What is blocked as long already is left as
it is; an end that would move by less than a hundredth, and less than a minute, is not moved. Importing the
same file again says "unchanged". With --replace an empty file asks before it ends all of the feed's claims.

Examples:
  falcodrop import addresses.txt --for 1w --reason 'abuse report 4711'
  curl -s https://feeds.example/drop | falcodrop import - --feed drop --replace
  ssh other falcodrop export | falcodrop import - --dry-run`,
  },
  export: {
    operands: '',
    summary: 'all claims as JSON lines, which import takes back',
    options: [...chooseBy, limit],
    details: `One line a claim, sorted by address. Feeds' sets and policies' claims keep their owners.

Examples:
  falcodrop export > claims.jsonl
  falcodrop export --owner hand --within 2001:db8::/32`,
  },
  undo: {
    operands: '',
    summary: 'take back what policies did lately',
    options: [
      { flags: '--since <time>', text: 'what was done then or later: 15m (ago; the default), today 14:00' },
      { flags: '--owner <owner>', text: 'policy (all of them; the default) or policy:NAME' },
      { flags: '--rule <name>', text: 'of alerts of this Falco rule alone' },
      { flags: '--within <prefix>', text: 'targets that lie in it whole' },
      dryRun,
      yes,
    ],
    details: `Claims that were made in that time are withdrawn; those that were extended get back the end they had, if that
is still to come. Hands' and feeds' claims go on. It lists them and asks.

Examples:
  falcodrop undo --dry-run
  falcodrop undo --since 1h --owner policy:ssh --yes`,
  },
  reconcile: {
    operands: '',
    summary: 'make maps and ledger equal',
    options: [dryRun],
    details: `The daemon does it at its start and every ten minutes, and "attach" before the first packet meets fresh maps.
What the ledger knows nothing of is adopted, or removed where the configuration says "foreign: remove".

Example:
  falcodrop reconcile --dry-run`,
  },
  backup: {
    operands: '<file>',
    summary: 'a copy of the ledger, while it is in use ("-" = stdout)',
    options: [{ flags: '--replace', text: 'write over a file that is there' }],
    details: `Everything that is wanted, with reasons and history, as one file (SQLite), readable by its owner alone.

Example:
  falcodrop backup /root/falcodrop-ledger.db`,
  },
  restore: {
    operands: '<file>',
    summary: 'make the ledger what a backup holds',
    options: [dryRun, yes],
    details: `Claims and history become those of the backup, in one step; a running daemon goes on with them. The file is
checked first: nothing changes when it is damaged. Drops go on as they are until "falcodrop reconcile" (or the
daemon's next one) makes the maps equal: claims of the backup that live are put in force again, and what is
blocked and not in it is adopted, not ended.

Example:
  falcodrop restore /root/falcodrop-ledger.db && falcodrop reconcile`,
  },
  map: {
    operands: '<action> [name]',
    summary: 'what is pinned: map list, map dump NAME, map check',
    options: [
      { flags: '--raw', text: 'dump keys and values as bytes' },
      { flags: '--limit <count>', text: 'dump so many at most' },
    ],
    details: `map list   every pin of the set: type, sizes, entries, owner, mode; what another tool pinned there is marked
map dump   the entries of one map in words; those that another tool must have written are marked
map check  layout, version, owners and modes, frozen maps, hints, rows of scopes, links: ends with 1 when
           something is wrong, and names the way out

How the maps are laid out: docs/map-abi.md.

Examples:
  falcodrop map list
  falcodrop map dump blocked_v4 --limit 20
  falcodrop map dump settings --raw --json
  falcodrop map check`,
  },
  watch: {
    operands: '<what>',
    summary: 'see packets as they are dropped: watch drops',
    options: [
      { flags: '--within <prefix>', text: 'from sources that lie in it' },
      { flags: '--limit <count>', text: 'end after so many' },
    ],
    details: `A line a sample: time, interface, protocol, length, source, destination, what was done, by which block when it
is not the address itself, and which one of its packets it was (#). Of each block the 1st, 2nd, 4th, 8th …
packet is told, not every one. It goes on until it is ended.

One process reads the samples: the daemon, which hands them on to all who watch; without a daemon the first
who watches.

Examples:
  falcodrop watch drops
  falcodrop watch drops --within 203.0.113.0/24 --limit 10 --json`,
  },
  run: {
    operands: '',
    summary: "the daemon: take Falco's alerts and block offenders",
    options: [
      { flags: '--stdin', text: "take alerts from stdin, one a line (Falco's program_output), to its end" },
      { flags: '--file <path...>', text: "take alerts from files, one a line (Falco's file_output), to their ends" },
      { flags: '--follow', text: 'go on at the end of these files, through rotation and restarts' },
      { flags: '--http', text: 'beside these, listen for HTTP too' },
    ],
    details: `Needs no capability: run it as the service user that "falcodrop attach" gave the maps to.

Where alerts come from says the configuration (http, files, stdin); with --stdin or --file only they are taken.
At the end of all input, if that has one, it ends with 0 when every alert is decided and what it blocked is
written down. Followed files are read on from where the last run had come to.

Examples:
  falcodrop run
  falcodrop run --file /var/log/falco/alerts.jsonl --follow
  falcodrop run --stdin < alerts.jsonl`,
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
  setup: {
    operands: '<what>',
    summary: 'make a Falco post its alerts here: setup falco (root)',
    options: [
      { flags: '--apply', text: 'lay it down, validated; undone when Falco refuses it' },
      { flags: '--remove', text: 'take away exactly what was laid; what was there before comes back' },
      { flags: '--diff', text: 'what would change, as a unified diff' },
      { flags: '--url <url>', text: 'where falcodrop listens (default: as its configuration says)' },
      ...falco,
      yes,
    ],
    details: `Prints what fits the Falco that is here, and why: config.d/falcodrop.yaml (JSON alerts, addresses on network rules,
http_output) and rules.d/falcodrop_rules.yaml. What this Falco does not know is left out. falco.yaml is read and never
written to: for a Falco without config.d (before 0.38) the keys are printed. An http_output that goes elsewhere
stays; what to chain is said then. A file that somebody else has changed is replaced or removed only after
a question, and kept in /etc/falco/falcodrop/backup. Falco is not restarted.

Examples:
  falcodrop setup falco
  falcodrop setup falco --diff
  falcodrop setup falco --apply && systemctl restart falco
  falcodrop setup falco --falco-version 0.43.1 --falco-dir /srv/falco/etc`,
  },
  rules: {
    operands: '<action> [bundle]',
    summary: 'rule files for Falco, undone when it refuses: rules deploy (root)',
    options: [
      { flags: '--restart <command>', text: 'how Falco is restarted (default: its systemd unit); no shell' },
      { flags: '--no-restart', text: 'do not restart it' },
      { flags: '--health <url>', text: 'what says that it is well (default: its web server), or none' },
      { flags: '--wait <duration>', text: 'how long it may take until it is (default 30s)' },
      ...falco,
      dryRun,
    ],
    details: `BUNDLE is a folder, or a .tar.gz of one, with files *.yaml. Falco validates them together with all else it reads; rules.d
is exchanged in one step; Falco is restarted and watched until it is well and stays so. When any of that fails
the former rules are put back, and Falco is restarted with them. Files of the last bundle that this one has no
more are removed; others in rules.d stay. What was there is kept in /etc/falco/falcodrop/former-rules.

Examples:
  falcodrop rules deploy ./rules --dry-run
  falcodrop rules deploy rules-4711.tar.gz
  falcodrop rules deploy ./rules --falco ./falco-in-docker \\
    --restart 'docker restart falco'`,
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
  log: 'history',
  revert: 'undo',
  dump: 'export',
  load: 'attach',
  unload: 'detach',
  ls: 'list',
  panic: 'mode',
  whitelist: 'allow',
  permit: 'allow',
  test: 'test-alert',
  start: 'run',
  daemon: 'run',
};

export const exitStatuses = `Exit statuses:
  0 done, also when nothing had to change   3 refused by the guard
  1 failed                                  4 not there
  2 wrong usage, nothing was done           5 not permitted`;
